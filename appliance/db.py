"""The database: one writer, any number of readers, and its schema. A file in the home, or a server's.

Promise: whoever writes does so durably, asserted on every connection; whoever reads can not write.
Alembic owns the schema: an older one is upgraded after a verified backup, a newer or unknown one is
refused. What differs between SQLite and PostgreSQL lies in `databases`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, insert, inspect, update
from sqlalchemy.exc import DatabaseError

from appliance import durable
from appliance.clock import Clock
from appliance.config import EMBEDDED, Home, Settings
from appliance.databases.base import Database
from appliance.databases.sqlite import SqliteFile
from appliance.errors import SetupError

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_NO_DATABASE_OF_OURS = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR")

Row = Mapping[str, str | int | bytes | None]  # of a state table, column by column
Place = Database | Path  # a bare path is an SQLite file: a copy of a record, or a home's own

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
    """State and revision of a database."""

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


def of(home: Home, settings: Settings, *, owner_url: str = "") -> Database:
    """The home's database, unopened. `owner_url` logs in whoever may change a server's schema."""
    if settings.database_url == EMBEDDED:
        if owner_url:
            raise SetupError("an embedded database has no owner of its own", code="bad_config")
        return SqliteFile(home.database)
    # The driver is loaded where it is asked for: an embedded log needs no libpq.
    from appliance.databases import postgres  # noqa: PLC0415

    return postgres.PostgresSchema(
        origin=settings.audit.origin,
        profile=settings.profile,
        commit_timeout_seconds=settings.audit.commit_timeout_seconds,
        parameters=postgres.parse(settings.database_url),
        owner_parameters=postgres.parse(owner_url) if owner_url else None,
    )


def at(place: Place) -> Database:
    """A database from whatever stands for one."""
    return SqliteFile(place) if isinstance(place, Path) else place


def schema(place: Place) -> Schema:
    """How a database's schema stands to ours. Reads only. SetupError where no server answers."""
    script = _script()
    head = script.get_current_head() or ""
    if not at(place).exists():
        return Schema(SchemaState.ABSENT, None, head)
    try:
        with reading(place) as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            is_empty = not inspect(connection).get_table_names()
    except DatabaseError as error:
        name = getattr(error.orig, "sqlite_errorname", "")
        if name and not name.startswith(_NO_DATABASE_OF_OURS):
            raise SetupError(
                f"the database can not be read: {name}",
                code="database_unreadable",
                hint="the disk or the home's permissions are at fault; nothing was changed",
            ) from error
        return Schema(SchemaState.UNKNOWN, None, head)
    if is_empty:  # a crash before the first revision's commit leaves a database without tables
        return Schema(SchemaState.ABSENT, None, head)
    known = {each.revision for each in script.walk_revisions()}
    if revision == head:
        return Schema(SchemaState.CURRENT, revision, head)
    state = SchemaState.OLDER if revision in known else SchemaState.UNKNOWN
    return Schema(state, revision, head)


def require_current(place: Place) -> Schema:
    """SetupError unless the database has exactly our schema."""
    found = schema(place)
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


def upgrade(
    home: Home, database: Database, clock: Clock, *, made_backup: Path | None = None
) -> Upgrade | None:
    """Create or upgrade the home's database; None where it is current. Never without a backup.

    `made_backup` is one that the operator made elsewhere. The caller holds the home's lock. A crash
    leaves either the old schema or the new one (all revisions are one transaction), and the backup in
    both cases.
    """
    found = schema(database)
    if found.state is SchemaState.CURRENT:
        return None
    if found.state is SchemaState.UNKNOWN:
        require_current(database)
    if found.state is SchemaState.ABSENT and home.head.exists():
        raise SetupError(
            "the audit database is missing, but this home has had one",
            code="database_missing",
            hint="restore it from a backup; a new log would hide that the old one is gone",
        )
    backup_path = None
    digest = ""
    if found.state is SchemaState.OLDER:
        backup_path = made_backup or backup(home, database, clock, note=str(found.revision))
        digest = digest_of(backup_path)
    change_schema(database, "head")
    now = require_current(database)
    return Upgrade(found.revision, now.head, backup_path, digest)


def change_schema(database: Database, revision: str) -> None:
    """To a revision, in one transaction, with everybody's rights as they must be behind it."""
    engine = database.migrator()
    try:
        with engine.begin() as connection:
            database.prepare(connection)
            migrate(connection, revision)
            database.grant(connection)
    finally:
        engine.dispose()


def settle(path: Path) -> None:
    """Roll back what a crash left of the file's very first transaction: no reader may do that.

    Later ones use the WAL and need nothing. The caller holds the home's lock.
    """
    if path.with_name(path.name + "-journal").exists():
        engine = SqliteFile(path).migrator()
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        finally:
            engine.dispose()


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


def backup(home: Home, database: Database, clock: Clock, *, note: str) -> Path:
    """A consistent copy in the home's backups. SetupError where it fails."""
    durable.make_private_dir(home.backups)
    moment = datetime.fromtimestamp(clock.now_us() / 1e6, tz=UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = home.backups / f"appliance-{moment}-{note}{database.copy_suffix}"
    copy(database, target)
    return target


def copy(place: Place, target: Path) -> None:
    """A consistent, private, durable copy, held against itself. SetupError where it can not be made."""
    try:
        at(place).copy_to(target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        durable.fsync_dir(target.parent)
    except OSError as error:
        raise SetupError(f"the copy failed: {error}", code="backup_failed") from error


def fold(path: Path) -> None:
    """Bring the write-ahead log into the database file, as far as no reader keeps it."""
    engine = SqliteFile(path).migrator()
    try:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection  # SQLAlchemy would begin a transaction
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        engine.dispose()


def digest_of(path: Path) -> str:
    """SHA-256 of a backup, hex, read in pieces: a record of years does not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_alembic())


def put_row(connection: Connection, table: Table, row: Row) -> None:
    """Insert a row, or replace the one with its id. Runs inside its audit record's transaction."""
    key = next(iter(table.primary_key))
    changed = connection.execute(update(table).where(key == row[key.name]).values(**row))
    if changed.rowcount == 0:
        connection.execute(insert(table).values(**row))


@contextlib.contextmanager
def reading(place: Place) -> Iterator[Connection]:
    """A connection that can not write, for one piece of work."""
    engine = at(place).reader()
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
