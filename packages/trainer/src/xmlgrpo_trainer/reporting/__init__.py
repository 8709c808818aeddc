"""What one sees while a run trains."""
