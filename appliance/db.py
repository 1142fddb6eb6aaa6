"""The database: one SQLite file in the home, one writer, any number of readers, and its schema.

Promise: whoever writes does so with WAL and synchronous=FULL, asserted on every connection; whoever
reads can not write. Alembic owns the schema: an older one is upgraded after a verified backup, a
newer or unknown one is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, pool
from sqlalchemy.exc import DatabaseError

from appliance import durable
from appliance.clock import Clock
from appliance.config import Home
from appliance.errors import SetupError

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
BUSY_TIMEOUT_SECONDS = 2
_NO_DATABASE_OF_OURS = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class SchemaState(StrEnum):
    """A database's schema against the one that this release knows."""

    ABSENT = "absent"
    CURRENT = "current"
    OLDER = "older"
    UNKNOWN = "unknown"  # a revision of a newer release, or no database of ours


@dataclass(frozen=True, slots=True)
class Schema:
    """State and revision of a database file."""

    state: SchemaState
    revision: str | None
    head: str


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What `upgrade` did; `backup` is None where the database was new."""

    from_revision: str | None
    to_revision: str
    backup: Path | None
    backup_sha256: str = ""


def writer(path: Path) -> Engine:
    """An engine with one connection whose transactions begin with BEGIN IMMEDIATE."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect_writer(path),
        poolclass=pool.StaticPool,
        hide_parameters=True,  # an error's text must not quote what went into its statement
    )
    # The driver's own transaction handling is off (isolation_level None): SQLAlchemy says BEGIN.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def reader(path: Path) -> Engine:
    """An engine that can not write, on a live database or on a copy of one."""
    return create_engine(
        "sqlite://",
        creator=lambda: _connect_reader(path),
        poolclass=pool.NullPool,
        hide_parameters=True,
    )


def schema(path: Path) -> Schema:
    """How the file's schema stands to ours. Reads only."""
    script = _script()
    head = script.get_current_head() or ""
    if not path.exists():
        return Schema(SchemaState.ABSENT, None, head)
    try:
        with reader(path).connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            is_empty = not connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").first()
    except DatabaseError as error:
        name = getattr(error.orig, "sqlite_errorname", "")
        if not name.startswith(_NO_DATABASE_OF_OURS):
            raise SetupError(
                f"the database can not be read: {name or type(error).__name__}",
                code="database_unreadable",
                hint="the disk or the home's permissions are at fault; nothing was changed",
            ) from error
        return Schema(SchemaState.UNKNOWN, None, head)
    except SetupError:
        return Schema(SchemaState.UNKNOWN, None, head)
    if is_empty:  # a crash before the first revision's commit leaves a file without tables
        return Schema(SchemaState.ABSENT, None, head)
    known = {each.revision for each in script.walk_revisions()}
    if revision == head:
        return Schema(SchemaState.CURRENT, revision, head)
    state = SchemaState.OLDER if revision in known else SchemaState.UNKNOWN
    return Schema(state, revision, head)


def require_current(path: Path) -> Schema:
    """SetupError unless the file has exactly our schema."""
    found = schema(path)
    match found.state:
        case SchemaState.CURRENT:
            return found
        case SchemaState.ABSENT:
            raise SetupError("the database is missing", code="database_missing", hint="run: appliance init")
        case SchemaState.OLDER:
            raise SetupError(
                f"the database has schema {found.revision}, this release needs {found.head}",
                code="schema_older",
                hint="run: appliance db upgrade (it makes a backup first)",
            )
        case SchemaState.UNKNOWN:
            raise SetupError(
                f"the database has schema {found.revision}, which this release does not know",
                code="schema_newer",
                hint="it was written by a newer release: install that one, or restore a backup",
            )


def upgrade(home: Home, clock: Clock) -> Upgrade | None:
    """Create or upgrade the home's database; None where it is current. Never without a backup.

    The caller holds the home's lock. A crash leaves either the old schema or the new one (each
    revision is one transaction), and the backup in both cases.
    """
    found = schema(home.database)
    if found.state is SchemaState.CURRENT:
        return None
    if found.state is SchemaState.UNKNOWN:
        require_current(home.database)
    if found.state is SchemaState.ABSENT and home.head.exists():
        raise SetupError(
            "the audit database is missing, but this home has had one",
            code="database_missing",
            hint="restore appliance.db from a backup; a new log would hide that the old one is gone",
        )
    backup_path = None
    digest = ""
    if found.state is SchemaState.OLDER:
        backup_path = backup(home, clock, note=str(found.revision))
        digest = digest_of(backup_path)
    engine = writer(home.database)
    try:
        with engine.begin() as connection:
            migrate(connection, "head")
    finally:
        engine.dispose()
    now = require_current(home.database)
    return Upgrade(found.revision, now.head, backup_path, digest)


def settle(path: Path) -> None:
    """Roll back what a crash left of the file's very first transaction: no reader may do that.

    Later ones use the WAL and need nothing. The caller holds the home's lock.
    """
    if path.with_name(path.name + "-journal").exists():
        with contextlib.closing(_connect_writer(path)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")


def checkpoint(connection: Connection) -> None:
    """Move what the WAL holds into the database, as far as readers let it. Outside a transaction."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def migrate(connection: Connection, revision: str) -> None:
    """Run Alembic up or down to `revision` on an open connection."""
    config = _alembic()
    config.attributes["connection"] = connection
    order = [each.revision for each in _script().walk_revisions()][::-1]
    current = MigrationContext.configure(connection).get_current_revision()
    target = order[-1] if revision == "head" else revision
    here = order.index(current) if current in order else -1
    there = order.index(target) if target in order else -1
    if there >= here:
        command.upgrade(config, revision)
    else:
        command.downgrade(config, revision)


def backup(home: Home, clock: Clock, *, note: str) -> Path:
    """A consistent copy by SQLite's backup API, checked, in the home's backups. SetupError if not."""
    durable.make_private_dir(home.backups)
    moment = datetime.fromtimestamp(clock.now_us() / 1e6, tz=UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = home.backups / f"appliance-{moment}-{note}.db"
    try:
        with (
            contextlib.closing(_connect_reader(home.database)) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            target.chmod(durable.PRIVATE_FILE)
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            problems = copy.execute("PRAGMA integrity_check").fetchall()
        if problems != [("ok",)]:
            raise SetupError("the backup is not whole", code="backup_failed")
        with target.open("rb") as file:
            os.fsync(file.fileno())
        durable.fsync_dir(home.backups)
    except (sqlite3.Error, OSError) as error:
        raise SetupError(f"the backup failed: {error}", code="backup_failed") from error
    return target


def digest_of(path: Path) -> str:
    """SHA-256 of a backup, hex, read in pieces: a record of years does not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_alembic())


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """A connection that can not write, for one piece of work."""
    engine = reader(path)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
