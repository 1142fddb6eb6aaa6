"""What every command that verifies a database needs: the schema that it must have, and one call."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import create_engine, pool

from appliance import db
from appliance.audit import fsck
from appliance.audit.checkpoint import Verifier
from appliance.audit.report import Expected, Report
from appliance.state import STATE_TABLES


def expected_schema(dialect: str = "sqlite") -> dict[str, str]:
    """What this release's migrations make: anew in memory, or for a server as this release knows it."""
    if dialect != "sqlite":
        from appliance.audit.fsck import postgres  # noqa: PLC0415 - the driver is loaded where it is used

        return postgres.expected_schema()
    engine = create_engine("sqlite://", poolclass=pool.StaticPool)
    try:
        with engine.begin() as connection:
            db.migrate(connection, "head")
            raw = connection.connection.dbapi_connection
            if not isinstance(raw, sqlite3.Connection):
                raise TypeError("SQLite is expected here")
            return fsck.sqlite_schema(raw)
    finally:
        engine.dispose()


def state_tables() -> dict[str, str]:
    """Tables whose every row a record commits to, and the column that names a row."""
    return {each.name: next(iter(each.primary_key)).name for each in STATE_TABLES}


def second_reading(path: Path, verifiers: tuple[Verifier, ...]) -> Report:
    """Read a copy of a record whole. No head file is held against it; its last requests may be open."""
    expected = Expected(
        verifier=verifiers[0],
        others=verifiers[1:],
        schema=expected_schema(),
        revision=db.schema(path).head,
        state_tables=state_tables(),
        head_note=None,
        may_be_open=True,
    )
    return fsck.verify(fsck.SqliteSource(path), expected)
