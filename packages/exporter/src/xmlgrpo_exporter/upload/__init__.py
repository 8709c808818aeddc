"""What may leave the machine, and what proves it."""
