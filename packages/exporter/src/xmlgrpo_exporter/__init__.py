"""How the model leaves: merge, GGUF, parity gates, model card, Hugging Face Hub."""
