"""API keys, roles and who holds them."""
