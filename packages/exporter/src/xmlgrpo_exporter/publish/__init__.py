"""Publishing on the Hugging Face Hub: what may be uploaded, what forbids it, the upload."""
