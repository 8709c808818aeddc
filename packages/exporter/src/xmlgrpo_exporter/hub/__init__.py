"""The Hugging Face Hub: what it is asked and what it is sent."""
