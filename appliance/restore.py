"""A backup put back: the database, or the shares. What was there before is moved aside, never deleted.

The database comes back only where it proves itself: whole, of this release's schema, and green by the
second reading with this home's own public key. Where the head file remembers more than it holds, the log
stays closed: `anew` is the way on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import appliance
from appliance import db, durable
from appliance.audit import files, lineage, share_backups, shares, store
from appliance.audit.checkpoint import Verifier
from appliance.audit.entry import Entry
from appliance.audit.files import take_lock
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity
from appliance.audit.report import Report
from appliance.audit.sequencer import Sequencer, Start
from appliance.audit.shares import Share, ShareStore
from appliance.clock import Clock
from appliance.config import EMBEDDED, Home, Settings
from appliance.errors import SetupError, VerificationError

Verify = Callable[[Path, tuple[Verifier, ...]], Report]  # the second reading of a database that nobody writes
STAGED = ".restoring.db"
_SQLITE_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it. `closed` is why the log stays closed; empty where it goes on."""

    tree_size: int
    sha256: str
    aside: Path | None
    closed: str = ""
    hint: str = ""

    @property
    def entry(self) -> Entry:
        """The record of it."""
        public: dict[str, str | int] = {"backup_sha256": self.sha256, "tree_size": self.tree_size}
        return Entry(kind=Kind.DATABASE_RESTORED, public=public)


def require_embedded(settings: Settings) -> None:
    """SetupError where the database is a server's."""
    if settings.database_url != EMBEDDED:
        raise SetupError(
            "this database lies on a server, whose own tools restore it",
            code="restore_on_server",
            hint="stop the appliance, run pg_restore into an empty schema, then start it: the head file "
            "tells whether that copy is older than the log was",
        )


def restore_database(home: Home, settings: Settings, clock: Clock, file: Path, *, verify: Verify) -> Restored:
    """Put a backup in the place of the home's database. SetupError or VerificationError: nothing changed."""
    require_embedded(settings)
    lock = take_lock(home)
    try:
        placed = place_database(home, file, verify=verify)
        try:
            record(home, settings, clock, [placed.entry])
        except SetupError as error:  # the copy stands in its place; the log tells why it stays closed
            return replace(placed, closed=error.code, hint=error.hint)
        return placed
    finally:
        os.close(lock)


def place_database(home: Home, file: Path, *, verify: Verify) -> Restored:
    """`restore_database` but for its record: the caller holds the home's lock, and writes `entry`."""
    verifiers = files.read_verifiers(home.keys)
    staged = home.root / STAGED
    staged.unlink(missing_ok=True)
    try:
        tree_size = _checked_copy(file, staged, verifiers, verify)
        digest = db.digest_of(file)
        aside = _move_aside(home, digest)
        staged.replace(home.database)
        durable.fsync_dir(home.root)
    finally:
        staged.unlink(missing_ok=True)
    return Restored(tree_size, digest, aside)


def restore_shares(
    home: Home, settings: Settings, clock: Clock, file: Path, identity: Identity
) -> tuple[int, int]:
    """Take shares from a backup, but for what is here and what was erased; how many of each kind.

    The log must be able to open: what it can not record does not happen.
    """
    data = file.read_bytes()
    found = share_backups.open_backup(data, identity)
    lock = take_lock(home)
    try:
        kept = still_due(home, settings, found)
        shares.create(home)
        num_erased = len(found) - len(kept)
        digest = share_backups.digest_of(data)
        record(home, settings, clock, [shares_restored(digest, len(kept), num_erased)])
        return add_shares(home, kept), num_erased
    finally:
        os.close(lock)


def still_due(home: Home, settings: Settings, found: Iterable[Share]) -> list[Share]:
    """Those of a backup's shares that no entry of this home's logs destroyed."""
    db.require_current(db.of(home, settings))  # it knows what was erased
    erased = _erased(home, settings)
    return [each for each in found if each.id not in erased]


def add_shares(home: Home, kept: Iterable[Share]) -> int:
    """Into the home's store, which is there; how many it had not. The record of it came before."""
    opened = ShareStore(home)
    try:
        return opened.add(kept)
    finally:
        opened.close()


def shares_restored(backup_sha256: str, num_shares: int, num_erased: int) -> Entry:
    """The record of shares that come back."""
    return Entry(
        kind=Kind.SHARES_RESTORED,
        public={"backup_sha256": backup_sha256, "num_shares": num_shares, "num_erased": num_erased},
    )


def move(names: Iterable[str], source: Path, target: Path) -> None:
    """Move files into a folder of the same file system, durably; those that are gone already are passed."""
    durable.make_private_dir(target)
    for name in names:
        if (source / name).exists():
            (source / name).replace(target / name)
    durable.fsync_dir(target)
    durable.fsync_dir(target.parent)
    durable.fsync_dir(source)


def _checked_copy(file: Path, staged: Path, verifiers: tuple[Verifier, ...], verify: Verify) -> int:
    if db.schema(file).state is not db.SchemaState.CURRENT:
        raise SetupError(
            "the backup has not the schema of this release",
            code="backup_schema",
            hint="restore it with the release that made it, then upgrade",
        )
    db.copy(file, staged)
    report = verify(staged, verifiers)
    if not report.is_green:
        first = report.findings[0]
        raise VerificationError(
            f"the backup is not a whole record of this log: {first.message}",
            code="backup_not_green",
            hint=f"appliance audit verify --database {file}",
        )
    return report.num_entries


def _move_aside(home: Home, digest: str) -> Path | None:
    """Before anything takes the place: a write-ahead log beside a database that it is not of destroys it."""
    names = [home.database.name + suffix for suffix in _SQLITE_FILES]
    present = [name for name in names if (home.root / name).exists()]
    if not present:
        return None
    number = 1
    while any((_aside(home, digest, number) / name).exists() for name in present):
        number += 1
    target = _aside(home, digest, number)
    durable.make_private_dir(target)
    lineage.write_verifiers(home, target)
    move(present, home.root, target)
    return target


def _aside(home: Home, digest: str, number: int) -> Path:
    return home.archive / f"replaced-by-{digest[:16]}-{number}"


def _erased(home: Home, settings: Settings) -> set[bytes]:
    """Shares that an entry of any of this home's logs destroyed."""
    found: set[bytes] = set()
    places: list[db.Place] = [db.of(home, settings), *lineage.archived(home)]
    for place in places:
        if db.schema(place).state is db.SchemaState.CURRENT:
            with db.reading(place) as connection:
                found.update(store.erased_shares(connection))
    return found


def record(home: Home, settings: Settings, clock: Clock, recorded: Sequence[Entry]) -> None:
    """Open the log, write these, close it. SetupError where it stays closed; the caller holds the lock."""
    sequencer = Sequencer(home, db.of(home, settings), settings.audit, clock)
    try:
        sequencer.open(Start(Kind.LOG_STARTED, {"version": appliance.__version__}))
        sequencer.commit(recorded)
        sequencer.write_head()
    finally:
        sequencer.close()
