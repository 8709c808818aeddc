"""What all stages agree on about a run: its folder, its files, and the screen."""
