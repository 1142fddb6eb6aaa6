"""A program whose n-th system call of a kind fails, for every n of a list, in one strace run.

strace counts calls by thread, and fails call number WHEN. So each case is a forked child that first
burns calls without effect, until the n-th real one is number WHEN. What came of it goes into shared
memory: a report by system calls would be hit itself. The parent does nothing that could fail.

`python -m tests.fault.injected FOLDER CASES REPORT`: CASES is JSON, a list of `Case`.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import appliance.audit.log as log_module
from appliance import config
from appliance.audit.files import Latch
from appliance.audit.log import AuditLog
from appliance.audit.pending import Call
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.errors import ApplianceError, AuditUnavailable
from tests.fault.traced import SIZES, opening, small_checkpoints

WHEN: Final = 1500
APPENDS: Final = 8
_REPORT_BYTES = 1 << 16
_NOWHERE = 999_999


@dataclass(frozen=True, slots=True)
class Case:
    """The `nth` call of `name` fails, while the log opens or while it writes."""

    name: str
    nth: int
    phase: str  # "open" or "run"
    lasting: bool  # it fails from then on


@dataclass(slots=True)
class Outcome:
    """What a caller and an operator saw."""

    acks: list[tuple[int, str]] = field(default_factory=list)
    not_opened: str = ""  # the error's code
    latched: str = ""
    told: int = 0  # callers that got AuditUnavailable while it was latched
    not_recovered: str = ""
    recovered: bool = False
    strange: str = ""  # what must not happen


def burn(name: str, count: int) -> None:
    """Calls that change nothing."""
    calls: dict[str, Any] = {
        "pwrite64": lambda: os.pwrite(_NOWHERE, b"", 0),
        "write": lambda: os.write(_NOWHERE, b""),
        "fdatasync": lambda: os.fdatasync(_NOWHERE),
        "fsync": lambda: os.fsync(_NOWHERE),
        "ftruncate": lambda: os.ftruncate(_NOWHERE, 0),
        "openat": lambda: os.open("", os.O_RDONLY),
        "rename": lambda: os.rename("", ""),  # noqa: PTH104 - exactly this call
        "unlink": lambda: os.unlink(""),  # noqa: PTH108 - as above
    }
    for _ in range(count):
        with contextlib.suppress(OSError):
            calls[name]()


def live(home: Home, case: Case, outcome: Outcome) -> None:
    """A life of the log with one fault in it, as its callers and its operator see it."""
    if case.phase == "open":
        burn(case.name, WHEN - case.nth)
    try:
        log = AuditLog.open(home, config.load(home), SystemClock(), version="injected")
    except ApplianceError as error:
        outcome.not_opened = error.code
        return
    except OSError as error:
        if error.filename is None or Path(error.filename).is_relative_to(home.root):
            raise
        outcome.not_opened = "program_unreadable"  # a file of the release, such as a migration's script
        return
    if case.phase == "run":
        done: Future[None] = Future()
        log._queue.put(Call(lambda: burn(case.name, WHEN - case.nth), done))
        done.result(30)
    append(log, outcome, "a")
    log.check()
    if not log.is_ready:
        outcome.latched = log._state.reason
        append(log, outcome, "b")
        if outcome.told < APPENDS:
            outcome.strange = "somebody was not told of the latch"
        try:
            log.recover()
            outcome.recovered = True
        except ApplianceError as error:
            outcome.not_recovered = error.code
        on_disk = Latch(home.latch).reason()
        if bool(on_disk) == outcome.recovered and (outcome.recovered or not case.lasting):
            outcome.strange = f"the latch on the disk says otherwise: {on_disk!r}"
        append(log, outcome, "c")
    log.close()
    if log._thread.is_alive():
        outcome.strange = "the writer did not end"


def append(log: AuditLog, outcome: Outcome, prefix: str) -> None:
    """Openings one by one, whoever may take them."""
    for number in range(APPENDS):
        try:
            receipt = log.append_sync(opening(f"req_{prefix}_{number}", "x" * SIZES[number % len(SIZES)]))
            outcome.acks.append((receipt.seq, receipt.leaf.hex()))
        except AuditUnavailable:
            outcome.told += 1
            if log.is_ready:
                outcome.strange = "refused by an open log"


def child(home: Home, case: Case, report: mmap.mmap) -> None:
    """One case in its own process; never returns."""
    outcome = Outcome()
    threading.excepthook = lambda each: setattr(outcome, "strange", f"thread: {each.exc_value!r}")
    try:
        live(home, case, outcome)
    except BaseException as error:  # whatever else came is what the test is for
        outcome.strange = f"{type(error).__name__}: {error}"
    text = json.dumps(asdict(outcome)).encode()
    report[: len(text) + 1] = text + b"\0"
    os._exit(0)


def main(arguments: list[str]) -> None:
    """All cases, one after the other, each in its own home `case-N`."""
    folder, cases, target = map(Path, arguments)
    vars(log_module)["CHORES_SECONDS"] = 0.001
    small_checkpoints()
    found = []
    for number, raw in enumerate(json.loads(cases.read_text())):
        report = mmap.mmap(-1, _REPORT_BYTES)
        pid = os.fork()
        if pid == 0:
            child(Home(root=folder / f"case-{number}"), Case(**raw), report)
        deadline = time.monotonic() + 30
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, 9)
            time.sleep(0.002)
        text = report[:].partition(b"\0")[0]
        found.append(json.loads(text) if text else asdict(Outcome(strange="it hung or died")))
    target.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
