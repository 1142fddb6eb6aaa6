"""Imported models, names that stand for models, evaluations: their rows, and which of them are meant."""
