"""A run beside its training."""
