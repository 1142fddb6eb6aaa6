"""What waits for the log's writer, and how long it may take: the pieces that `log` is made of."""

from __future__ import annotations

import contextlib
import errno
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import DatabaseError

from appliance.audit.entry import Entry
from appliance.core import Receipt
from appliance.errors import AuditUnavailable, InternalError, SetupError

MAX_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class LogState:
    """Open, or latched and why."""

    reason: str = ""

    @property
    def is_ready(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Append:
    """An entry on its way to the disk."""

    entry: Entry
    done: Future[Receipt]


@dataclass(frozen=True, slots=True)
class Call:
    """Something that the writer thread does between two batches."""

    function: Callable[[], None]
    done: Future[None]

    def resolve(self) -> None:
        """Do it, and tell whoever waits how it went."""
        try:
            self.function()
        except Exception as error:  # the caller gets it, whatever it is
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


class Stop:
    """The end of the queue."""


Item = Append | Call | Stop


def gather(first: Append, waiting: queue.Queue[Item]) -> tuple[list[Append], Item | None]:
    """Whatever waits already, up to a bound, and what ended the batch; never waits itself."""
    batch = [first]
    while len(batch) < MAX_BATCH:
        try:
            item = waiting.get_nowait()
        except queue.Empty:
            break
        if not isinstance(item, Append):
            return batch, item
        batch.append(item)
    return batch, None


def refuse(batch: Iterable[Append]) -> None:
    """Tell each of them that the log is closed."""
    for each in batch:
        each.done.set_exception(unavailable())


def unavailable() -> AuditUnavailable:
    """For everybody who wanted something from a closed log."""
    return AuditUnavailable(
        "the audit log can not commit, so nothing is answered",
        hint="the operator finds the reason on /readyz and runs: appliance audit recover",
        retry_after_seconds=30,
    )


class Busy:
    """How long the writer has been at one piece of work; the time in the queue does not count.

    Written by the writer's thread only, read by everybody who waits for it.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._since: float | None = None

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """One piece of work."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    @property
    def left_seconds(self) -> float:
        """How long the present piece may still take; 0 where it has taken too long."""
        since = self._since
        if since is None:
            return self._limit_seconds
        return max(0.0, since + self._limit_seconds - time.monotonic())


@contextlib.contextmanager
def or_setup_error(code: str) -> Iterator[None]:
    """What the disk or SQLite says while the log opens, in words for the operator."""
    try:
        yield
    except (DatabaseError, OSError) as error:
        raise SetupError(
            f"the log can not be opened: {reason_of(error)}",
            code=code,
            hint="appliance audit verify tells what is wrong; restore the home from a backup",
        ) from error


def retrieve(future: Any) -> None:
    """Nobody waits for this any more: its error is known already."""
    if not future.cancelled():
        future.exception()


def reason_of(error: Exception) -> str:
    """For the operator: the kind of failure, and what our own errors say of it."""
    if isinstance(error, SetupError | InternalError):
        return error.message
    original = getattr(error, "orig", None) or error
    name = getattr(original, "sqlite_errorname", "") or getattr(original, "sqlstate", None) or ""
    if isinstance(original, OSError):
        name = errno.errorcode.get(original.errno or 0, "")
    message = getattr(original, "message", "")
    return " ".join(part for part in (type(original).__name__, name, message) if part)
