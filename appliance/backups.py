"""What is kept of a home elsewhere: copies of the database for years, of the shares for days, and a box file.

A database without shares holds no content, so its copies may live long. A copy of the shares would bring
back what was erased since: it lives at most `audit.share_backup_days`, and an erasure replaces all of
them by a fresh one at once. The box file holds what else a home needs to come back: its keys, its settings,
its head; only the newest is worth keeping. Those of shares and box are on the record before they exist.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from appliance import db, durable, keyring
from appliance.audit import boxes, checkpoint, files, share_backups, shares, store
from appliance.audit.boxes import Box, Part
from appliance.audit.entry import Entry, done_by
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.config import Home
from appliance.core import Principal, Receipt
from appliance.databases.base import Database
from appliance.errors import SetupError


class ShareBackups:
    """Makes and removes backups of the shares. The caller excludes erasures meanwhile."""

    def __init__(self, audit: AuditLog, home: Home, database: Database, clock: Clock, days: int) -> None:
        self._audit = audit
        self._home = home
        self._database = database
        self._clock = clock
        self._days = days

    async def make(self) -> Path:
        """A fresh backup of every share, sealed to the recovery key. SetupError where it can not be kept."""
        made_us = self._clock.now_us()
        found = await asyncio.to_thread(lambda: list(shares.every(self._home)))
        recipients = share_backups.recipients_of(self._audit.policy)
        data = share_backups.seal(
            found,
            recipients,
            origin=self._audit.origin,
            tree_size=self._audit.tree_size,
            made_us=made_us,
        )
        await self._audit.append(
            Entry(
                kind=Kind.SHARES_BACKED_UP,
                public={
                    "backup_sha256": share_backups.digest_of(data),
                    "num_shares": len(found),
                    "num_recipients": len(recipients),
                },
            )
        )
        path = share_backups.path_of(self._home, made_us)
        try:
            durable.make_private_dir(self._home.backups)
            await asyncio.to_thread(durable.write_file, path, data)
        except OSError as error:
            raise SetupError(
                f"the backup of the shares failed: {error.strerror}", code="backup_failed"
            ) from error
        return path

    async def expire(self) -> int:
        """Remove what is too old, and what an erasure has overtaken once a fresh one stands; how many."""
        with db.reading(self._database) as connection:
            last_erasure = store.last_seq_of(connection, (Kind.CONTENT_ERASED,))
        found = share_backups.every(self._home)
        overtaken = share_backups.before_erasure(found, origin=self._audit.origin, last_erasure=last_erasure)
        if overtaken:
            await self.make()
        old = share_backups.too_old(found, now_us=self._clock.now_us(), days=self._days)
        doomed = {each.path for each in (*overtaken, *old)}
        if doomed:
            await self._audit.append(Entry(kind=Kind.SHARES_EXPIRED, public={"num_removed": len(doomed)}))
            for path in doomed:
                durable.destroy(path)
            durable.fsync_dir(self._home.backups)
        return len(doomed)


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of the database."""

    path: Path
    sha256: str
    tree_size: int
    schema: str
    head: str  # a checkpoint that the copy holds: a restored home remembers as much, and goes on


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup left besides the copy of the database; `num_expired` older ones of shares went."""

    receipt: Receipt
    shares: Path
    box: Path
    num_expired: int


def copy_database(home: Home, database: Database, clock: Clock, *, note: str) -> Copied:
    """A copy in the home's backups, and what it holds. Reads all of it: not for an event loop."""
    is_file = database.file is not None
    head = "" if is_file else _head_of(database)  # of a server: what its dump holds at least
    path = db.backup(home, database, clock, note=note)
    digest = db.digest_of(path)
    # A file is asked itself; what a server's dump holds can only be asked of the server, a moment later.
    read = path if is_file else database
    with db.reading(read) as connection:
        tree_size = store.num_entries(connection)
    return Copied(path, digest, tree_size, str(db.schema(read).revision), head or _head_of(path))


async def make_box(audit: AuditLog, home: Home, clock: Clock, copied: Copied, shares_path: Path) -> Path:
    """The box file that goes with these copies, in the place of older ones; on the record before it exists.

    SetupError where it can not be kept, VerificationError where the copy's head is none of this log.
    """
    made_us = clock.now_us()
    verifiers = await asyncio.to_thread(files.read_verifiers, home.keys)
    head = checkpoint.open_checkpoint(copied.head, *verifiers)
    older = await asyncio.to_thread(boxes.every, home)
    recipients = share_backups.recipients_of(audit.policy)

    def sealed() -> bytes:
        box = Box(
            origin=audit.origin,
            tree_size=head.size,
            made_us=made_us,
            files=_files_of(home) | {boxes.HEAD: copied.head.encode()},
            database=Part(copied.path.name, copied.sha256),
            shares=Part(shares_path.name, db.digest_of(shares_path)),
        )
        return boxes.seal(box, recipients)

    try:
        data = await asyncio.to_thread(sealed)
        recorded = Entry(
            kind=Kind.BOX_BACKED_UP,
            public={
                "backup_sha256": share_backups.digest_of(data),
                "tree_size": head.size,
                "num_recipients": len(recipients),
                "num_removed": len(older),
            },
        )
        await audit.append(recorded)
        path = boxes.path_of(home, made_us)
        await asyncio.to_thread(_replace_boxes, home, path, data, older)
    except OSError as error:
        raise SetupError(f"the box file failed: {error.strerror}", code="backup_failed") from error
    return path


def _files_of(home: Home) -> dict[str, bytes]:
    """What goes into a box, but for the head."""
    paths = {name: home.root / name for name in boxes.FILES - {boxes.HEAD}}
    return {name: keyring.read(home, path) for name, path in paths.items() if path.exists()}


def _replace_boxes(home: Home, path: Path, data: bytes, older: list[Path]) -> None:
    durable.make_private_dir(home.backups)
    durable.write_file(path, data)
    for each in older:
        if each != path:
            durable.destroy(each)
    durable.fsync_dir(home.backups)


def _head_of(place: db.Place) -> str:
    with db.reading(place) as connection:
        found = store.head(connection)
    if found is None:
        raise SetupError("the database holds no log", code="database_missing")
    return found[1]


def backed_up(copied: Copied, by: Principal | None = None) -> Entry:
    """The record of a copy of the database."""
    public: dict[str, str | int] = {
        "backup_sha256": copied.sha256,
        "tree_size": copied.tree_size,
        "schema": copied.schema,
    }
    return Entry(
        kind=Kind.DATABASE_BACKED_UP,
        public=public,
        content=done_by(by) or None,
        actor=by.key_id if by is not None else None,
    )
