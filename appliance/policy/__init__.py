"""Admission: pure rules whose decisions are values."""
