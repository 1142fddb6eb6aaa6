"""One SQLite file: one writer with WAL and synchronous=FULL, asserted; readers that can not write."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, pool

from appliance import durable
from appliance.errors import SetupError

# Below audit.commit_timeout_seconds as it comes: a lock that somebody else holds is called one.
BUSY_TIMEOUT_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """The database of a home, or a copy of one. Implements `Database`."""

    path: Path

    dialect = "sqlite"
    copy_suffix = ".db"

    def __str__(self) -> str:
        return str(self.path)

    @property
    def file(self) -> Path:
        """The file itself; its WAL lies beside it."""
        return self.path

    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def open_writer(self) -> SqliteWriter:
        """The caller holds the home's lock: SQLite itself would let two writers take turns."""
        return SqliteWriter(self.migrator())

    def migrator(self) -> Engine:
        """An engine with one connection whose transactions begin with BEGIN IMMEDIATE."""
        engine = create_engine(
            "sqlite://",
            creator=lambda: _connect_writer(self.path),
            poolclass=pool.StaticPool,
            hide_parameters=True,  # an error's text must not quote what went into its statement
        )
        # The driver's own transaction handling is off (isolation_level None): SQLAlchemy says BEGIN.
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine

    def prepare(self, connection: Connection) -> None:
        """A file needs nothing."""

    def grant(self, connection: Connection) -> None:
        """A file has one owner."""

    def reader(self) -> Engine:
        """On a live database or on a copy of one."""
        return create_engine(
            "sqlite://",
            creator=lambda: _connect_reader(self.path),
            poolclass=pool.NullPool,
            hide_parameters=True,
        )

    def version(self) -> str:
        """The library that is linked into this Python."""
        return f"sqlite {sqlite3.sqlite_version}"

    def copy_to(self, target: Path) -> None:
        """By SQLite's backup API, with an integrity check of the copy."""
        try:
            with (
                contextlib.closing(_connect_reader(self.path)) as source,
                contextlib.closing(sqlite3.connect(target)) as copy,
            ):
                target.chmod(durable.PRIVATE_FILE)
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                problems = copy.execute("PRAGMA integrity_check").fetchall()
        except sqlite3.Error as error:
            raise SetupError(f"the backup failed: {error}", code="backup_failed") from error
        if problems != [("ok",)]:
            raise SetupError("the backup is not whole", code="backup_failed")


class SqliteWriter:
    """Implements `Writer`. What can happen to the file behind its back, the log's FileGuard notices."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.connection = engine.connect()

    def check(self) -> None:
        """A connection to a file is not lost."""

    def checkpoint(self) -> None:
        """From the WAL into the file."""
        driver: Any = self.connection.connection.driver_connection  # SQLAlchemy would begin a transaction
        driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
        self._engine.dispose()


def _connect_writer(path: Path) -> sqlite3.Connection:
    # Created for its owner only, before SQLite would create it with the process's umask.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.PRIVATE_FILE))
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    # SQLite keeps the errors of its own checkpoints to itself: the sequencer makes them.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    found = [_pragma(connection, name) for name in ("journal_mode", "synchronous")]
    if found != ["wal", 2]:
        connection.close()
        raise SetupError(
            "the database does not take WAL with synchronous=FULL",
            code="database_settings",
            hint="the home must lie on a local file system",
        )
    return connection


def _connect_reader(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise SetupError(f"no database at {path}", code="database_missing")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
