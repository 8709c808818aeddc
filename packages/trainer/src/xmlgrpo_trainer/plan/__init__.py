"""What a run would do and need, before any weight is loaded."""
