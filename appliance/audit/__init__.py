"""The sealed, tamper-evident audit log."""
