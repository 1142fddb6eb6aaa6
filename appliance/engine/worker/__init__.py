"""The only process with llama.cpp in it: no keys, no database, no network."""
