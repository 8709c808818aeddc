"""The `graph` engine on a GPU: one CUDA graph a token."""
