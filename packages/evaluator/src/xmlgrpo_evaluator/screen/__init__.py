"""What one sees while a model is evaluated."""
