"""A tiny base for any task that can make its own rows: its language, known badly."""
