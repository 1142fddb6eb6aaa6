"""Refusals on the record, one by one until somebody floods, then counted (DESIGN.md law 5)."""

from __future__ import annotations

import asyncio
import contextlib

from appliance.audit import entry
from appliance.audit.log import AuditLog
from appliance.audit.refusals import RefusalLimiter
from appliance.clock import Clock
from appliance.core import Caller, Principal
from appliance.errors import AuditUnavailable
from appliance.log import get_logger

FLUSH_SECONDS = 1.0

log = get_logger(__name__)


class Refusals:
    """Owner of the counts that are not yet on the record: the event loop's thread."""

    def __init__(self, audit: AuditLog, clock: Clock, *, burst: int) -> None:
        self._audit = audit
        self._clock = clock
        self._limiter = RefusalLimiter(burst)
        self._flusher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write the counts each second."""
        self._flusher = asyncio.create_task(self._flush_for_ever())

    async def stop(self) -> None:
        """Write what is counted, and stop."""
        if self._flusher is not None:
            self._flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher
        await self._flush()
