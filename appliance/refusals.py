"""Refusals on the record, one by one until somebody floods, then counted (DESIGN.md law 5)."""

from __future__ import annotations

import asyncio
import contextlib

from appliance.audit import entry
from appliance.audit.log import AuditLog
from appliance.audit.refusals import Counted, RefusalLimiter
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
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Begin to write the counts each second."""
        self._flusher = asyncio.create_task(self._flush_for_ever())

    async def stop(self) -> None:
        """Write what is counted, and stop."""
        self._stopping.set()  # not a cancellation: counts that are being written would be lost
        if self._flusher is not None:
            await self._flusher
        await self._flush()

    async def record(
        self,
        *,
        request_id: str,
        principal: Principal | None,
        caller: Caller,
        route: str,
        code: str,
        status: int,
    ) -> None:
        """Durable when it returns, by itself or as a count of the next flush.

        AuditUnavailable where the log can not take it.
        """
        counted = Counted(address=caller.address, code=code, status=status, route=route)
        if not self._audit.is_ready or self._limiter.admit(counted, now_us=self._now_us()):
            await self._audit.append(
                entry.refused(
                    request_id=request_id,
                    principal=principal,
                    caller=caller,
                    route=route,
                    code=code,
                    status=status,
                )
            )

    async def _flush_for_ever(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        for counted, count in self._limiter.flush():
            try:
                await self._audit.append(
                    entry.refused(
                        request_id=None,
                        principal=None,
                        caller=Caller(address=counted.address),
                        route=counted.route,
                        code=counted.code,
                        status=counted.status,
                        count=count,
                    )
                )
            except AuditUnavailable:
                # Latched: /readyz says so, and each of these callers got an answer already.
                log.warning("refusals_unrecorded", count=count)

    def _now_us(self) -> int:
        return self._clock.monotonic_us()
