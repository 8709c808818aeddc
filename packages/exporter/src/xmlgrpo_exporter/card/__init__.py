"""The model card: every number names its file."""
