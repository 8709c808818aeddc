"""Ask a trained model questions."""
