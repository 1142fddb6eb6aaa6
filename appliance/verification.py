"""Verification by itself: what came since the last one each hour, everything each week (NIST SI-7).

The reading is a process of its own at the lowest priority, the very `appliance audit verify` that an
operator runs; its result comes back over the control socket like theirs. A red one closes the log
(law 4): a record that was tampered with is not written on until an operator has looked. What they
have acknowledged, by `appliance audit recover` behind it, is told again and does not latch again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass

import msgspec

from appliance.audit import query
from appliance.audit.entry import Entry, person_of
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.verdict import Told, Verification
from appliance.clock import Clock
from appliance.config import Audit, Home
from appliance.core import Principal, Receipt
from appliance.databases.base import Database
from appliance.errors import AuditUnavailable
from appliance.log import get_logger

_LEAST_DELAY_SECONDS = 60  # behind a start: the workers come first
_LOWEST_PRIORITY = 19
_MAX_LOOKED_AT = 1000  # of earlier results: more than a month of them
_PROGRAM = (sys.executable, "-c", "from appliance.cli import main; main()")

log = get_logger(__name__)


class Last(msgspec.Struct, frozen=True):
    """The newest result on the record."""

    is_green: bool
    size: int
    ts: int  # microseconds, UTC


@dataclass(slots=True)
class Reading:
    """A reading that goes on. Times in microseconds, monotonic; `total` is 0 until it has begun to read."""

    is_full: bool
    began_us: int
    who: Principal | None  # None: by itself
    done: int = 0
    total: int = 0


class Verifications:
    """Owner of the newest result and of the process that makes the next: the event loop's thread."""

    def __init__(
        self, home: Home, database: Database, audit: AuditLog, settings: Audit, clock: Clock
    ) -> None:
        self._home = home
        self._database = database
        self._audit = audit
        self._settings = settings
        self._clock = clock
        self._full_us = 0  # when the newest full reading was recorded
        self._runner: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._asked = asyncio.Event()  # somebody wants one now
        self._next: tuple[bool, Principal] | None = None  # whether a full one, and who
        self.last: Last | None = None
        self.findings: tuple[str, ...] = ()  # of the last result, where this process has heard them
        self.reading: Reading | None = None

    def start(self) -> None:
        """Begin to verify; the record tells when it was done last."""
        for each in query.search(self._database, kind=Kind.LOG_VERIFIED, limit=_MAX_LOOKED_AT):
            if self.last is None:
                self.last = Last(each.public["findings"] == 0, int(each.public["size"]), each.ts)
            if each.public["begin"] == 0:
                self._full_us = each.ts
                break
        self._runner = asyncio.create_task(self._run_for_ever())

    async def stop(self) -> None:
        """End a reading that runs; it has changed nothing."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner

    def ask(self, who: Principal, *, is_full: bool) -> bool:
        """Begin a reading now; False where one goes on, or the log is closed."""
        if self.reading is not None or self._next is not None or not self._audit.is_ready:
            return False
        self._next = (is_full, who)
        self._asked.set()
        return True

    @property
    def is_waiting(self) -> bool:
        """Whether a reading goes on, or is about to."""
        return self.reading is not None or self._next is not None

    async def record(self, result: Verification) -> Receipt:
        """The result, durable on the record; a red one that nobody has acknowledged latches the log."""
        is_new = result.findings and not await asyncio.to_thread(
            _is_acknowledged, self._database, result.findings_sha256
        )
        who = self.reading.who if self.reading is not None else None
        told = {"findings": result.findings} if result.findings else {}
        asked = {"principal": person_of(who)} if who is not None else {}
        receipt = await self._audit.append(
            Entry(
                kind=Kind.LOG_VERIFIED,
                public={
                    "begin": result.begin,
                    "size": result.size,
                    "root": result.root,
                    "findings": len(result.findings),
                    "findings_sha256": result.findings_sha256,
                    "duration_us": result.duration_us,
                },
                content={**told, **asked} or None,
                actor=who.key_id if who is not None else None,
            )
        )
        now_us = self._clock.now_us()
        self.last = Last(not result.findings, result.size, now_us)
        self.findings = tuple(result.findings)
        if result.begin == 0:
            self._full_us = now_us
        if is_new:
            log.error("audit_verified_red", findings=len(result.findings))
            reason = f"verify is red, {len(result.findings)} findings: {result.findings[0]}"
            await asyncio.to_thread(self._audit.latch, reason)
        return receipt

    async def _run_for_ever(self) -> None:
        while not await self._is_stopped_within(self._seconds_to_next()):
            asked, self._next = self._next, None
            self._asked.clear()
            if self._audit.is_ready:
                await self._run(asked)

    def _seconds_to_next(self) -> float:
        interval_us = self._settings.verify_minutes * 60_000_000
        last_us = self.last.ts if self.last else self._clock.now_us()
        return max(_LEAST_DELAY_SECONDS, (last_us + interval_us - self._clock.now_us()) / 1e6)

    async def _run(self, asked: tuple[bool, Principal] | None = None) -> None:
        """One reading in a process of its own, ended with us."""
        full_age_us = self._clock.now_us() - self._full_us
        is_due = full_age_us >= self._settings.verify_full_days * 86_400_000_000
        is_full, who = asked or (is_due, None)
        self.reading = Reading(is_full, self._clock.monotonic_us(), who)
        try:
            await self._read(self.reading)
        finally:
            self.reading = None

    async def _read(self, reading: Reading) -> None:
        arguments = ["audit", "verify", "--json", "--progress", "--home", str(self._home.root)]
        process = await asyncio.create_subprocess_exec(
            *_PROGRAM,
            *arguments,
            *([] if reading.is_full else ["--since-last"]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _LOWEST_PRIORITY)
        followed = asyncio.create_task(_follow(process, reading))
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        code = await ended
        await followed
        if not self._stopping.is_set() and code not in {0, 1}:
            await self._alarm(code)

    async def _alarm(self, code: int) -> None:
        """It could not be verified: nothing is known to be wrong, and nothing to be right."""
        log.error("audit_not_verified", exit_code=code)
        self.last = Last(is_green=False, size=self.last.size if self.last else 0, ts=self._clock.now_us())
        with contextlib.suppress(AuditUnavailable):  # then the latch tells more
            await self._audit.append(Entry(kind=Kind.LOG_ALARM, public={"code": "verify_not_run"}))

    async def _is_stopped_within(self, seconds: float) -> bool:
        """Wait: until it is time, somebody asks, or the end."""
        waits = [asyncio.create_task(each.wait()) for each in (self._stopping, self._asked)]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        return self._stopping.is_set()


async def _follow(process: asyncio.subprocess.Process, reading: Reading) -> None:
    """How far a reading has come, as it tells line by line; it must never wait for us to listen."""
    said = b""
    while process.stderr is not None and (some := await process.stderr.read(4096)):
        *lines, said = (said + some).split(b"\n")
        said = said[-4096:]
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):  # a warning, for people
                told = msgspec.json.decode(line, type=Told)
                reading.done, reading.total = told.done, told.total


def _is_acknowledged(database: Database, findings_sha256: str) -> bool:
    """Whether an operator opened the log again after these very findings had closed it."""
    recovered = query.search(database, kind=Kind.LOG_RECOVERED, limit=1)
    if not recovered:
        return False
    earlier = query.search(
        database, kind=Kind.LOG_VERIFIED, before_seq=recovered[0].seq, limit=_MAX_LOOKED_AT
    )
    return any(each.public["findings_sha256"] == findings_sha256 for each in earlier)
