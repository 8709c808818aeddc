"""The run folder while it is written: lock, checkpoints, stops, failures."""
