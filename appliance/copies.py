"""A copy of database, shares and box while the gateway runs, because somebody at the console asked.

It reads the whole database, which can take longer than anybody waits for a page: it runs by itself, one at a
time, and tells how it went. The same copy, and the same record, as `appliance db backup`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from appliance.audit.log import AuditLog
from appliance.backups import copy_database
from appliance.clock import Clock
from appliance.config import Home
from appliance.core import Principal
from appliance.custody import Custody
from appliance.databases.base import Database
from appliance.errors import ApplianceError, RequestError, Unavailable
from appliance.log import get_logger

_ROOM: Final = 1.1  # a copy is as large as what it copies, and the log goes on meanwhile

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CopyState:
    """How the newest copy went. Times in microseconds UTC; nothing yet: all of them empty."""

    began_us: int | None = None
    ended_us: int | None = None
    problem: str = ""
    name: str = ""

    @property
    def is_running(self) -> bool:
        return self.began_us is not None and self.ended_us is None


class Copies:
    """Owner of `state` and `_task`: the event loop's thread."""

    def __init__(
        self, *, home: Home, database: Database, audit: AuditLog, custody: Custody, clock: Clock
    ) -> None:
        self._home = home
        self._database = database
        self._audit = audit
        self._custody = custody
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self.state = CopyState()

    def start(self, by: Principal) -> None:
        """Begin. RequestError where one runs already; Unavailable where there is no room, or no record."""
        if self.state.is_running:
            raise RequestError("a backup is being made already", code="backup_running")
        if not self._audit.is_ready:
            raise Unavailable("the audit log is closed, and a backup is an entry", code="audit_unavailable")
        file = self._database.file
        if file is not None and self._audit.room.free_bytes < file.stat().st_size * _ROOM:
            raise Unavailable(
                "the disk has no room for a copy of the database",
                code="disk_low",
                hint="copy it to another disk: appliance db backup writes into backups/ of the home",
            )
        self.state = CopyState(began_us=self._clock.now_us())
        self._task = asyncio.create_task(self._run(by))

    async def stop(self) -> None:
        """Wait for the copy that runs: half a copy would lie about."""
        if self._task is not None:
            await self._task

    async def _run(self, by: Principal) -> None:
        began_us = self.state.began_us
        problem, name = "", ""
        try:
            copied = await asyncio.to_thread(
                copy_database, self._home, self._database, self._clock, note="console"
            )
            name = copied.path.name
            await self._custody.back_up(copied, by=by)
        except ApplianceError as error:
            problem = error.message
            log.error("backup_failed", code=error.code)
        except Exception as error:  # the edge of a task: whoever asked must hear of it
            problem = f"the backup failed: {type(error).__name__}"
            log.exception("backup_crashed", error=type(error).__name__)
        self.state = CopyState(began_us, self._clock.now_us(), problem, name)
