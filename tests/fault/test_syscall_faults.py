"""Every system call of the write path fails once, or for good: the log latches, and nobody is lied to.

SYSCALL_FAULTS sets how many calls of each kind are made to fail.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest

from appliance import config, durable
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.cli.init import initialise
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.errors import AuditUnavailable, SetupError
from tests.clocks import ManualClock
from tests.fault import strace
from tests.fault.injected import WHEN, Case, Outcome
from tests.fault.test_power_loss import fast
from tests.fault.traced import opening
from tests.records import findings

log = logging.getLogger(__name__)

EACH = int(os.environ.get("SYSCALL_FAULTS", "5"))
# How many calls of each kind there are while the log writes, and while it opens: about, and no less.
IN_RUN = {
    "pwrite64": 380,
    "write": 14,
    "fdatasync": 30,
    "fsync": 26,
    "openat": 30,
    "rename": 10,
    "unlink": 3,
    "ftruncate": 2,
}
IN_OPEN = {"pwrite64": 60, "write": 2, "fdatasync": 6, "fsync": 4, "openat": 40, "rename": 1}
NOTE = Entry(kind=Kind.LOG_ALARM, public={"code": "test"})
__all__ = ["fast"]


def spread(most: int, count: int) -> list[int]:
    """Some numbers from 1 to `most`, the first ones among them."""
    step = max(1, most // count)
    return sorted({1, 2, *range(1, most + 1, step)} & set(range(1, most + 1)))


def cases(each: int, *, lasting: bool) -> list[Case]:
    run = [Case(name, nth, "run", lasting) for name, most in IN_RUN.items() for nth in spread(most, each)]
    return run + [
        Case(name, nth, "open", lasting)
        for name, most in IN_OPEN.items()
        for nth in spread(most, max(1, each // 2))
    ]


def inject(fast: Path, error: str, *, lasting: bool) -> list[tuple[Case, Outcome, Home]]:
    """Run every case under strace; what came of each."""
    template = Home(root=fast / "template")
    durable.make_private_dir(template.root)
    template.config.write_text(
        '[audit]\norigin = "test/audit/1"\nepoch_records = 16\nballast_mib = 1\nmin_free_mib = 1\n'
    )
    initialise(template, profile="dev")
    every = cases(EACH // 3 if lasting else EACH, lasting=lasting)
    when = f"{WHEN}+" if lasting else str(WHEN)
    for number in range(len(every)):
        shutil.copytree(template.root, fast / f"case-{number}")
    (fast / "cases").write_text(json.dumps([asdict(each) for each in every]))
    options = ["-e", f"trace={','.join(IN_RUN)}", "-e", "status=failed"]
    for name in IN_RUN:
        options += ["-e", f"inject={name}:error={error}:when={when}"]
    strace.run(
        ["tests.fault.injected", str(fast), str(fast / "cases"), str(fast / "report")],
        fast / "trace",
        options=options,
    )
    outcomes = [Outcome(**each) for each in json.loads((fast / "report").read_text())]
    return [
        (case, outcome, Home(root=fast / f"case-{n}"))
        for n, (case, outcome) in enumerate(zip(every, outcomes, strict=True))
    ]


def recorded(home: Home) -> set[tuple[int, str]]:
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        return {(seq, leaf.hex()) for seq, leaf in connection.execute("SELECT seq, leaf FROM log_entry")}


def wrong(outcome: Outcome, home: Home) -> list[str]:
    """Behind the fault: the next start, with recovery where it is latched, finds everything."""
    problems = [outcome.strange] if outcome.strange else []
    log = AuditLog.open(home, config.load(home), SystemClock(), version="after")
    if not log.is_ready:
        log.recover()
    log.append_sync(NOTE)
    log.close()
    problems += findings(home)
    if lost := {tuple(each) for each in outcome.acks} - recorded(home):
        problems.append(f"acknowledged into the void: {lost}")
    return problems


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
def test_failing_call_latches_and_loses_nothing(
    fast: Path,
    error: str,
    lasting: bool,  # noqa: FBT001
) -> None:
    """Latched, everybody told, recovered when the fault is gone; and green."""
    found = inject(fast, error, lasting=lasting)
    problems = {
        f"{case.phase} {case.name} #{case.nth}": what
        for case, outcome, home in found
        if (what := wrong(outcome, home))
    }
    latched = [case.name for case, outcome, _ in found if outcome.latched]
    unopened = [case.name for case, outcome, _ in found if outcome.not_opened]
    log.info("%d faults: %d latched, %d kept it closed", len(found), len(latched), len(unopened))

    assert problems == {}
    assert {"pwrite64", "write", "fdatasync", "fsync", "openat", "rename"} <= set(latched)
    assert len(unopened) >= 3
    if not lasting:
        assert [outcome.not_recovered for _, outcome, _ in found if outcome.not_recovered] == []


VICTIMS = ("appliance.db", "appliance.db-wal", "appliance.db-shm", "head", "latch", "lock", "shares.db")
LOST = {"appliance.db": "database_missing", "shares.db": "shares_missing"}  # a backup's work
ACTS = ("remove", "rename", "replace", "open to others", "forbid")


def injure(path: Path, act: str) -> None:
    aside = path.with_name(f"{path.name}.aside")
    match act:
        case "remove":
            path.unlink()
        case "rename":
            path.rename(aside)
        case "replace":
            path.rename(aside)
            shutil.copy(aside, path)
        case "open to others":
            path.chmod(0o666)
        case _:
            path.chmod(0)


def heal(path: Path, act: str) -> None:
    """What an operator can undo."""
    if act in {"rename", "replace"}:
        path.with_name(f"{path.name}.aside").replace(path)
    elif act != "remove":
        path.chmod(0o600)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_file_that_is_no_longer_ours_latches(home: Home, clock: ManualClock, victim: str, act: str) -> None:
    """Before the next acknowledgement, for everybody, until recovery; only a lost database can not be."""
    log = AuditLog.open(home, config.load(home), clock, version="test")
    acks = [log.append_sync(opening(f"req_a_{number}", "x" * 500)) for number in range(3)]
    injure(home.root / victim, act)
    for number in range(3):
        with pytest.raises(AuditUnavailable):
            log.append_sync(opening(f"req_b_{number}", "x"))
    assert victim in log.check().reason
    heal(home.root / victim, act)
    if act == "remove" and victim in LOST:
        with pytest.raises(SetupError) as refused:
            log.recover()
        assert refused.value.code == LOST[victim]
        log.close()
        return
    log.recover()
    acks.append(log.append_sync(NOTE))
    log.close()

    assert findings(home) == []
    assert {(each.seq, each.leaf.hex()) for each in acks} <= recorded(home)
    AuditLog.open(home, config.load(home), clock, version="test").close()
