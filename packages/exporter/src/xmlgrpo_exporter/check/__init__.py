"""The gates of a GGUF file."""
