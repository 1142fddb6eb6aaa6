"""Alembic's environment: runs on the connection that `appliance.db` hands over, and on no other."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from appliance.db import metadata

connection = context.config.attributes["connection"]
if not isinstance(connection, Connection):
    raise TypeError("migrations run through appliance.db.migrate")

# One transaction around each run is the caller's: a crash leaves the old schema or the new one.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
