"""Certificates of the API and the console: a small authority for sites without one, and what is served."""
