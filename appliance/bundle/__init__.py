"""Offline bundles: built, signed, carried, verified, installed, upgraded and rolled back."""
