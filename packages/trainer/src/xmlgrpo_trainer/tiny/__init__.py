"""The embedded default: a real Gemma 3, small enough to be made on the spot on a CPU."""
