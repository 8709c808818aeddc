"""How a GGUF file is read and asked: llama.cpp, always behind a look at the file."""
