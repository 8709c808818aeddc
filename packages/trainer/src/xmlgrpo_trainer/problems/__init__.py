"""Problems: read, split, put into prompts, and asked as held-out exams."""
