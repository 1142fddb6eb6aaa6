"""`AuditLog`: durable when it returns, closed to everybody when it can not be.

One OS thread owns the sequencer; everybody else puts entries on its queue and waits. Any error of
storage latches it: everything fails at once until an operator has run `recover` (law 4), over restarts.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final

from appliance import db
from appliance.audit import sealing, surroundings
from appliance.audit.entry import Entry
from appliance.audit.files import Latch, keep_lock, take_lock
from appliance.audit.kinds import Kind
from appliance.audit.pending import (
    Append,
    Busy,
    Call,
    Item,
    LogState,
    Stop,
    gather,
    or_setup_error,
    reason_of,
    refuse,
    retrieve,
    unavailable,
)
from appliance.audit.policy import KeyPolicy
from appliance.audit.pulse import ClockWatch
from appliance.audit.sequencer import Sequencer, Start
from appliance.audit.space import Level, Room, Space, is_full
from appliance.clock import Clock
from appliance.config import Home, Settings
from appliance.core import Receipt
from appliance.errors import SetupError
from appliance.log import get_logger

CHORES_SECONDS: Final = 1.0  # between two looks at head file, disk, clock; the head is this much behind
JOIN_SECONDS: Final = 10.0
LATCH_SECONDS: Final = 1.0  # how long callers wait for the latch of a disk that may hang
_BLOCKED: Final = "a commit took longer than audit.commit_timeout_seconds"

log = get_logger(__name__)


class AuditLog:
    """The log of one home. Owner of `_sequencer`: the writer thread, once it runs."""

    def __init__(self, home: Home, settings: Settings, clock: Clock) -> None:
        self._home = home
        self._database = db.of(home, settings)
        self._settings = settings.audit
        self._clock = clock
        self._busy = Busy(settings.audit.commit_timeout_seconds)
        self._space = Space(home, settings.audit)
        self.times = ClockWatch(settings.audit.heartbeat_seconds)
        self._latch = Latch(home.latch)
        self._latching = threading.Lock()
        self._state = LogState()
        self._sequencer: Sequencer | None = None
        self._queue: queue.Queue[Item] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._lock_fd = -1
        self._gate = threading.Lock()  # nothing comes onto the queue behind the close
        self._is_closing = False
        self._size = self._first_seq = 0  # requests opened before `_first_seq` were closed by recovery
        self._chores_us = 0  # when they were last done
        self._written_us = 0  # when the last entry was

    @classmethod
    def open(cls, home: Home, settings: Settings, clock: Clock, *, version: str) -> AuditLog:
        """Take the lock, check the database, recover what a crash left open, and start writing.

        SetupError where another process holds the log, or where the database can not be trusted.
        A latched home opens latched: writing waits for `recover`.
        """
        opened = cls(home, settings, clock)
        opened._lock_fd = take_lock(home)
        try:
            db.require_current(opened._database)
            with or_setup_error("log_unreadable"):
                surroundings.check_filesystem(home, settings)
                opened._state = LogState(opened._latch.reason())
                opened._space.look()
                if opened._state.is_ready:
                    opened._space.prepare()
                    told = surroundings.started(home, opened._database, settings, version)
                    opened._sequencer = opened._start(Kind.LOG_STARTED, **told)
        except BaseException:
            os.close(opened._lock_fd)
            raise
        opened._thread.start()
        return opened

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._settings.origin

    @property
    def is_ready(self) -> bool:
        """False once the log has latched."""
        return self._state.is_ready

    @property
    def tree_size(self) -> int:
        """Entries on the record, as far as this process wrote or read them."""
        return self._size

    @property
    def policy(self) -> KeyPolicy:
        """The key policy in force. AuditUnavailable while the log is latched."""
        policy = self._sequencer.policy if self._sequencer is not None else None
        if policy is None:
            raise unavailable()
        return policy

    @property
    def room(self) -> Room:
        """How the home's disk stood a moment ago."""
        return self._space.room

    @property
    def is_low(self) -> bool:
        """True while the disk has too little room for new requests; what runs may go on."""
        return self._space.room.level is Level.LOW

    async def append(self, entry: Entry) -> Receipt:
        """Durable when it returns. A caller's cancellation does not cancel the write (law 6)."""
        waiting = asyncio.wrap_future(self._submit(entry))
        while True:
            try:
                return await asyncio.wait_for(asyncio.shield(waiting), self._busy.left_seconds)
            except TimeoutError:
                if self._busy.left_seconds and self._thread.is_alive():
                    continue  # the disk is at work; the queue before us was long
                waiting.add_done_callback(retrieve)
                await asyncio.to_thread(self._close_down, _BLOCKED)
                raise unavailable() from None

    def append_sync(self, entry: Entry) -> Receipt:
        """`append` for programs without an event loop."""
        waiting = self._submit(entry)
        while True:
            try:
                return waiting.result(self._busy.left_seconds)
            except FutureTimeoutError:
                if self._busy.left_seconds and self._thread.is_alive():
                    continue
                self._close_down(_BLOCKED)
                raise unavailable() from None

    async def checked(self) -> LogState:
        """`check` beside the event loop, within the time that a commit may take."""
        looking = asyncio.to_thread(self.check)
        try:
            return await asyncio.wait_for(looking, self._settings.commit_timeout_seconds)
        except TimeoutError:
            return LogState("the disk does not tell of the log's files")

    def check(self) -> LogState:
        """The state, after a look at the files: an idle log notices too that its database went.

        Reads the disk: not for an event loop.
        """
        sequencer = self._sequencer
        if self._state.is_ready and sequencer is not None and not self._is_closing:
            try:
                sequencer.check()
            except Exception as error:  # any doubt about the files closes the log
                self._close_down(reason_of(error))
        return self._state

    def latch(self, reason: str) -> None:
        """Close the log for a reason that was found outside it; whoever commits now is told so."""
        self._close_down(reason)

    def recover(self) -> None:
        """The operator's act: check everything anew, close what was open, unlatch, say so.

        SetupError or VerificationError where the database can not be trusted; it stays latched.
        An open log is left as it is: its requests are running, not left over.
        """
        done: Future[None] = Future()
        with self._gate:
            if self._is_closing:
                raise SetupError("the log is closed", code="log_closed")
            self._queue.put(Call(self._recover, done))
        try:
            done.result(JOIN_SECONDS)
        except FutureTimeoutError as error:
            raise SetupError(
                "the log's writer is still waiting for its disk",
                code="disk_blocked",
                hint="free the disk, then restart the appliance and run this again",
            ) from error

    def close(self) -> None:
        """Say goodbye on the record, write the head, release the lock. Once: a second call is none."""
        with self._gate:
            if self._is_closing:
                return
            self._is_closing = True
            self._queue.put(Stop())
        self._thread.join(JOIN_SECONDS)
        if self._thread.is_alive():
            # The writer still waits for its disk: whoever took the home now would fork the record.
            log.error("audit_close_blocked")
        else:
            os.close(self._lock_fd)

    # --- the writer thread ---------------------------------------------------------------------

    def _run(self) -> None:
        while self._turn():
            pass
        self._guarded(self._finish)
        self._let_go()

    def _turn(self) -> bool:
        """One batch or call; False at the end. Its locals die with it: an idle writer holds no content."""
        try:
            item: Item | None = self._queue.get(timeout=CHORES_SECONDS)
        except queue.Empty:
            with self._busy.working():
                self._guarded(self._chores)
            return True
        if isinstance(item, Append):
            batch, item = gather(item, self._queue)
            with self._busy.working():
                self._commit(batch)
        if isinstance(item, Call):
            item.resolve()
        return not isinstance(item, Stop)

    def _commit(self, batch: list[Append]) -> None:
        if not self._state.is_ready:
            refuse(batch)
            return
        batch = [each for each in batch if self._is_current(each)]
        try:
            receipts = self._write([each.entry for each in batch])
        except Exception as error:  # whatever it was, the state is unknown: stop (law 4)
            self._close_down(reason_of(error))
            refuse(batch)
            self._last_acts(error)
            return
        if not self._state.is_ready:  # a waiter gave up meanwhile: nobody may be told otherwise
            refuse(batch)
            return
        for each, receipt in zip(batch, receipts, strict=True):
            each.done.set_result(receipt)
        if self._clock.monotonic_us() - self._chores_us > CHORES_SECONDS * 1e6:
            self._guarded(self._chores)
        if self._sequencer is not None:
            self._guarded(self._sequencer.checkpoint)

    def _write(self, entries: Sequence[Entry]) -> list[Receipt]:
        """Commit entries, behind what the clocks say of the time since the last look."""
        if (sequencer := self._sequencer) is None:
            raise SetupError("the log is not open", code="log_closed")
        now_us = self._clock.monotonic_us()
        noticed = self.times.look(self._clock.now_us(), now_us, written_us=self._written_us)
        receipts = sequencer.commit([*noticed, *entries]) if noticed or entries else []
        if receipts:
            self._size, self._written_us = sequencer.size, now_us
        return receipts[len(noticed) :]

    def _chores(self) -> None:
        """Between commits: what nobody asks for, and what an idle log must notice all the same."""
        self._chores_us = self._clock.monotonic_us()
        self._space.look()
        if not self._state.is_ready or self._sequencer is None:
            return
        self._sequencer.check()
        alarm = self._space.take_alarm()
        said = [Entry(kind=Kind.LOG_ALARM, public={"code": alarm})] if alarm else []
        if self._chores_us - self._written_us >= self._settings.heartbeat_seconds * 1_000_000:
            said.append(Entry(kind=Kind.LOG_HEARTBEAT, public={"time_source": surroundings.time_source()}))
        self._write(said)
        if self._sequencer.head_is_behind:
            self._sequencer.write_head()

    def _last_acts(self, error: Exception) -> None:
        """What can still be done behind the latch; everybody has been told already.

        The head file learns the last acknowledged entry, so that a database that lost it does not open
        again. On a full disk the ballast makes room to close what is open, and to say why.
        """
        try:
            if is_full(error):
                self._space.release()
                self._reopen(Kind.LOG_ALARM, code="disk_full")
            elif self._sequencer is not None:
                self._sequencer.write_head()
        except Exception as second:  # the latch says enough
            log.error("last_acts_failed", error=type(second).__name__)

    def _is_current(self, each: Append) -> bool:
        """False, and told, where recovery has closed the request that this belongs to (law 3)."""
        opening = each.entry.opening
        if opening is None or opening >= self._first_seq:
            return True
        each.done.set_exception(unavailable())
        return False

    def _guarded(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:  # as in _commit
            self._close_down(reason_of(error))
            self._last_acts(error)

    def _finish(self) -> None:
        if self._state.is_ready and self._sequencer is not None:
            self._write([Entry(kind=Kind.LOG_STOPPED, public={"reason": "stop"})])
            self._sequencer.write_head()

    def _recover(self) -> None:
        if self._state.is_ready:
            return
        with or_setup_error("recovery_failed"):
            if self._sequencer is not None:
                self._sequencer.write_head()  # every entry that we acknowledged must be there
            self._let_go()
            db.require_current(self._database)  # before SQLite makes a new file where one is missing
            self._space.restore()
            self._lock_fd = keep_lock(self._home, self._lock_fd)
            sequencer = self._reopen(Kind.LOG_RECOVERED, reason=self._latch.reason())
            self._latch.open()
            sequencer.hold(self._home.latch)
        self._state = LogState()
        log.info("audit_recovered", tree_size=self._size)

    def _reopen(self, kind: Kind, **public: str | int) -> Sequencer:
        self._let_go()
        self._sequencer = self._start(kind, **public)
        return self._sequencer

    def _let_go(self) -> None:
        if self._sequencer is not None:
            self._sequencer.close()
            self._sequencer = None

    def _start(self, kind: Kind, **public: str | int) -> Sequencer:
        sequencer = Sequencer(self._home, self._database, self._settings, self._clock)
        try:
            if kind is not Kind.LOG_ALARM:
                public["heartbeat_seconds"] = self._settings.heartbeat_seconds
            sequencer.open(Start(kind=kind, public=dict(public)))
            if stepped := self.times.begin(sequencer.last_ts, self._clock.now_us()):
                sequencer.commit(stepped)
            sequencer.write_head()
        except BaseException:
            sequencer.close()
            raise
        self._size = self._first_seq = sequencer.size
        self._written_us = self._clock.monotonic_us()
        return sequencer

    def _submit(self, entry: Entry) -> Future[Receipt]:
        if entry.content is not None:
            sealing.check(entry.content)  # what can not be written fails by itself, not with its batch
        done: Future[Receipt] = Future()
        with self._gate:
            if not self._state.is_ready or self._is_closing:
                raise unavailable()
            self._queue.put(Append(entry, done))
        return done

    def _close_down(self, reason: str) -> None:
        """Latch. The first reason stands; a latch file that can not be written latches all the same."""
        with self._latching:
            if not self._state.is_ready:
                return
            self._state = LogState(reason)
        # Before anybody is told: it must outlive us. But the disk that hangs may be the latch's too,
        # and an event loop must not hang with it: then it lands later, or never.
        if threading.current_thread() is self._thread:
            self._write_latch(reason)
        else:
            writing = threading.Thread(target=self._write_latch, args=(reason,), name="latch", daemon=True)
            writing.start()
            writing.join(LATCH_SECONDS)
        log.error("audit_latched", reason=reason, exc_info=True)

    def _write_latch(self, reason: str) -> None:
        try:
            self._latch.set(reason)
        except OSError as error:
            log.error("latch_not_written", error=type(error).__name__)
