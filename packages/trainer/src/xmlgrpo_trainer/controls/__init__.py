"""What else could explain the demo's gain."""
