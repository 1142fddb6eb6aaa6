"""Model files in ggml's GGUF format: their headers, read in pure Python. Bounded, and never trusted."""
