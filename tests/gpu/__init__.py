"""What needs an NVIDIA GPU (`make test-gpu`, by hand); skipped with its reason where one is missing."""
