"""Numbers over items: of one model, and of two on the same ones."""
