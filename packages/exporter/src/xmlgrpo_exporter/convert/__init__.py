"""From a folder of weights to GGUF files."""
