"""Publishing on the Hugging Face Hub: what may go up, what speaks against it, the upload."""
