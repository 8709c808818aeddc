"""A run folder as one value."""
