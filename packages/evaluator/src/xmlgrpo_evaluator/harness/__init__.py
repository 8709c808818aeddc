"""lm-eval's models, with a journal and a listener in front of each."""
