"""`AuditLog`: durable when it returns, closed to everybody when it can not be.

One OS thread owns the sequencer; everybody else puts entries on its queue and waits. While one
batch is being committed the next one gathers: group commit without a timer. Any error of storage
latches the log: what is pending and what comes later fails at once with `AuditUnavailable`, until
an operator has run `recover` (law 4). The latch survives restarts.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import DatabaseError

from appliance import db
from appliance.audit import sealing
from appliance.audit.entry import Entry, Kind
from appliance.audit.files import Latch, take_lock
from appliance.audit.policy import KeyPolicy
from appliance.audit.sequencer import Sequencer, Start
from appliance.clock import Clock
from appliance.config import Home, Settings
from appliance.core import Receipt
from appliance.errors import AuditUnavailable, InternalError, SetupError
from appliance.log import get_logger

MAX_BATCH: Final = 256
HEAD_SECONDS: Final = 1.0  # the head file is at most this much behind
JOIN_SECONDS: Final = 10.0
LATCH_SECONDS: Final = 1.0  # how long callers wait for the latch of a disk that may hang

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LogState:
    """Open, or latched and why."""

    reason: str = ""

    @property
    def is_ready(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class _Append:
    entry: Entry
    done: Future[Receipt]


@dataclass(frozen=True, slots=True)
class _Call:
    """Something that the writer thread does between two batches."""

    function: Callable[[], None]
    done: Future[None]


class AuditLog:
    """The log of one home. Owner of `_sequencer`: the writer thread, once it runs."""

    def __init__(self, home: Home, settings: Settings, clock: Clock, version: str) -> None:
        self._home = home
        self._settings = settings.audit
        self._clock = clock
        self._version = version
        self._deadline_seconds = settings.audit.commit_timeout_seconds
        self._latch = Latch(home.latch)
        self._state = LogState()
        self._size = 0
        self._sequencer: Sequencer | None = None
        self._queue: queue.Queue[_Append | _Call | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._lock_fd = -1
        self._gate = threading.Lock()  # nothing comes onto the queue behind the close
        self._is_closing = False
        self._first_seq = 0  # requests opened before this were closed by recovery
        self._stopping = False
        self._head_written_us = 0

    @classmethod
    def open(cls, home: Home, settings: Settings, clock: Clock, *, version: str) -> AuditLog:
        """Take the lock, check the database, recover what a crash left open, and start writing.

        SetupError where another process holds the log, or where the database can not be trusted.
        A latched home opens latched: reading goes on, writing waits for `recover`.
        """
        opened = cls(home, settings, clock, version)
        opened._lock_fd = take_lock(home)
        try:
            db.require_current(home.database)
            opened._state = LogState(opened._latch.reason())
            if opened._state.is_ready:
                opened._sequencer = opened._start(Kind.LOG_STARTED)
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
            raise self._unavailable()
        return policy

    async def append(self, entry: Entry) -> Receipt:
        """Durable when it returns. A caller's cancellation does not cancel the write (law 6)."""
        waiting = asyncio.wrap_future(self._submit(entry))
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), self._deadline_seconds)
        except TimeoutError:
            self._close_down("a commit took longer than audit.commit_timeout_seconds")
            waiting.add_done_callback(_retrieve)
            raise self._unavailable() from None

    def append_sync(self, entry: Entry) -> Receipt:
        """`append` for programs without an event loop."""
        try:
            return self._submit(entry).result(self._deadline_seconds)
        except FutureTimeoutError:
            self._close_down("a commit took longer than audit.commit_timeout_seconds")
            raise self._unavailable() from None

    def check(self) -> LogState:
        """The state, after a look at the files: an idle log notices too that its database went."""
        sequencer = self._sequencer
        if self._state.is_ready and sequencer is not None and not self._is_closing:
            try:
                sequencer.check()
            except Exception as error:  # any doubt about the files closes the log
                self._close_down(_reason(error))
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
            self._queue.put(_Call(self._recover, done))
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
            self._queue.put(None)
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

    def _turn(self) -> bool:
        """One batch or call; False at the end. Its locals die with it: an idle writer holds no content."""
        try:
            item = self._queue.get(timeout=HEAD_SECONDS)
        except queue.Empty:
            self._guarded(self._write_head)
            return True
        if item is None:
            return False
        if isinstance(item, _Call):
            _resolve(item)
            return True
        batch, following = self._gather(item)
        self._commit(batch)
        if isinstance(following, _Call):
            _resolve(following)
        return not self._stopping

    def _gather(self, first: _Append) -> tuple[list[_Append], _Append | _Call | None]:
        """Whatever waits already, up to a bound; never waits itself."""
        batch = [first]
        self._stopping = False
        while len(batch) < MAX_BATCH:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(item, _Append):
                batch.append(item)
                continue
            self._stopping = item is None
            return batch, item
        return batch, None

    def _commit(self, batch: list[_Append]) -> None:
        sequencer = self._sequencer
        if not self._state.is_ready or sequencer is None:
            for each in batch:
                each.done.set_exception(self._unavailable())
            return
        batch = [each for each in batch if self._is_current(each)]
        if not batch:
            return
        try:
            receipts = sequencer.commit([each.entry for each in batch])
        except Exception as error:  # whatever it was, the state is unknown: stop (law 4)
            self._close_down(_reason(error))
            for each in batch:
                each.done.set_exception(self._unavailable())
            return
        self._size = sequencer.size
        if not self._state.is_ready:  # a waiter gave up meanwhile: nobody may be told otherwise
            for each in batch:
                each.done.set_exception(self._unavailable())
            return
        for each, receipt in zip(batch, receipts, strict=True):
            each.done.set_result(receipt)
        now_us = self._clock.monotonic_us()
        if now_us - self._head_written_us > HEAD_SECONDS * 1e6:
            self._guarded(self._write_head)

    def _is_current(self, each: _Append) -> bool:
        """False, and told, where recovery has closed the request that this belongs to (law 3)."""
        opening = each.entry.opening
        if opening is None or opening >= self._first_seq:
            return True
        each.done.set_exception(self._unavailable())
        return False

    def _guarded(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:  # as in _commit
            self._close_down(_reason(error))

    def _write_head(self) -> None:
        if self._state.is_ready and self._sequencer is not None and self._sequencer.head_is_behind:
            self._sequencer.write_head()
            self._head_written_us = self._clock.monotonic_us()

    def _finish(self) -> None:
        if self._sequencer is None:
            return
        try:
            if self._state.is_ready:
                self._sequencer.commit([Entry(kind=Kind.LOG_STOPPED, public={"reason": "stop"})])
                self._sequencer.write_head()
        finally:
            self._sequencer.close()
            self._sequencer = None

    def _recover(self) -> None:
        if self._state.is_ready:
            return
        db.require_current(self._home.database)  # before SQLite makes a new file where one is missing
        if self._sequencer is not None:
            self._sequencer.close()
            self._sequencer = None
        self._sequencer = self._start(Kind.LOG_RECOVERED, reason=self._latch.reason())
        self._latch.open()
        self._state = LogState()
        log.info("audit_recovered", tree_size=self._size)

    def _start(self, kind: Kind, **public: str) -> Sequencer:
        try:
            return self._opened(kind, **public)
        except (DatabaseError, OSError) as error:
            raise SetupError(
                f"the log can not be opened: {_reason(error)}",
                code="recovery_failed" if kind is Kind.LOG_RECOVERED else "log_unreadable",
                hint="appliance audit verify tells what is wrong; restore the home from a backup",
            ) from error

    def _opened(self, kind: Kind, **public: str) -> Sequencer:
        sequencer = Sequencer(self._home, self._settings, self._clock)
        try:
            if kind is Kind.LOG_STARTED:
                public = {
                    "version": self._version,
                    "sqlite": sqlite3.sqlite_version,
                    "schema": db.schema(self._home.database).head,
                }
            sequencer.open(Start(kind=kind, public=dict(public)))
            sequencer.write_head()
        except BaseException:
            sequencer.close()
            raise
        self._head_written_us = self._clock.monotonic_us()
        self._size = self._first_seq = sequencer.size
        return sequencer

    # --- every thread --------------------------------------------------------------------------

    def _submit(self, entry: Entry) -> Future[Receipt]:
        if entry.content is not None:
            sealing.check(entry.content)  # what can not be written fails by itself, not with its batch
        done: Future[Receipt] = Future()
        with self._gate:
            if not self._state.is_ready or self._is_closing:
                raise self._unavailable()
            self._queue.put(_Append(entry, done))
        return done

    def _close_down(self, reason: str) -> None:
        """Latch. The first reason stands; a latch file that can not be written latches all the same."""
        if not self._state.is_ready:
            return
        self._state = LogState(reason)
        # Before anybody is told, the log included: it must outlive us. But the disk that hangs may be
        # the latch's too, and an event loop must not hang with it: then it lands later, or never.
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

    def _unavailable(self) -> AuditUnavailable:
        return AuditUnavailable(
            "the audit log can not commit, so nothing is answered",
            hint="the operator finds the reason on /readyz and runs: appliance audit recover",
            retry_after_seconds=30,
        )


def _resolve(call: _Call) -> None:
    try:
        call.function()
    except Exception as error:  # the caller gets it, whatever it is
        call.done.set_exception(error)
    else:
        call.done.set_result(None)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _reason(error: Exception) -> str:
    """For the operator: the kind of failure, and what our own errors say of it."""
    if isinstance(error, SetupError | InternalError):
        return error.message
    original = getattr(error, "orig", None) or error
    name = getattr(original, "sqlite_errorname", "")
    message = getattr(original, "message", "")
    return " ".join(part for part in (type(original).__name__, name, message) if part)
