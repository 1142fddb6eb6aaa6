"""Small SQLite files beside the database: born whole, changed in transactions. Owners are elsewhere."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from appliance import durable


def create(path: Path, schema: str) -> None:
    """A file with these tables. It comes with a rename: a crash leaves no file, or a whole one."""
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.unlink(missing_ok=True)
    durable.write_file(fresh, b"")
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        connection.executescript(f"BEGIN; {schema} COMMIT;")
    fresh.replace(path)
    durable.fsync_dir(path.parent)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
