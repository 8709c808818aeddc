"""One folder per task: its rows, its prompt, its grade, its README."""
