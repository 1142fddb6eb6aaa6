"""What differs between SQLite and PostgreSQL: connections, their settings, roles, copies."""
