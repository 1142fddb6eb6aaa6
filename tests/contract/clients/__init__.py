"""Programs that run in the clients' own environments, as processes of their own: one line of JSON a check."""
