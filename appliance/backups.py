"""What is kept of a home elsewhere: copies of the database for years, of the shares for days.

A database without shares holds no content, so its copies may live long. A copy of the shares would bring
back what was erased since: it lives at most `audit.share_backup_days`, and an erasure replaces all of
them by a fresh one at once. Both are on the record before they exist.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from appliance import db, durable
from appliance.audit import share_backups, shares, store
from appliance.audit.entry import Entry, done_by
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.config import Home
from appliance.core import Principal
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


def copy_database(home: Home, database: Database, clock: Clock, *, note: str) -> Copied:
    """A copy in the home's backups, and what it holds. Reads all of it: not for an event loop."""
    path = db.backup(home, database, clock, note=note)
    digest = db.digest_of(path)
    # A file is asked itself; what a server's dump holds can only be asked of the server, a moment later.
    read = path if database.file is not None else database
    with db.reading(read) as connection:
        tree_size = store.num_entries(connection)
    return Copied(path, digest, tree_size, str(db.schema(read).revision))


def backed_up(backup_sha256: str, tree_size: int, schema: str, by: Principal | None = None) -> Entry:
    """The record of a copy of the database."""
    public: dict[str, str | int] = {"backup_sha256": backup_sha256, "tree_size": tree_size, "schema": schema}
    return Entry(
        kind=Kind.DATABASE_BACKED_UP,
        public=public,
        content=done_by(by) or None,
        actor=by.key_id if by is not None else None,
    )
