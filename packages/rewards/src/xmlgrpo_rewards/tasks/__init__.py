"""One folder a task: its rows, its prompt, its grade, its README."""
