"""The power goes at any moment: what was acknowledged is there, and the log opens again.

The real write path runs under strace; its files are rebuilt as a disk may have kept them at each
moment (tests/fault/crashes.py), and opened with the real code. POWER_LOSS_STATES sets the number of
states; the seed is fixed, so that a failure comes again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance import config, durable
from appliance.audit.log import AuditLog
from appliance.cli.init import initialise
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.errors import ApplianceError
from tests.fault import strace
from tests.fault.crashes import Crash, Disk, contents, crashes
from tests.records import findings

log = logging.getLogger(__name__)

NUM_STATES = int(os.environ.get("POWER_LOSS_STATES", "360"))
SEED = 20261121


@dataclass
class Tally:
    """What became of the crash states of one trace."""

    states: int = 0
    lost: int = 0  # a record that somebody had been told of is not there
    refused: Counter[str] = field(default_factory=Counter)
    damaged: int = 0  # `verify` is red, or SQLite finds the file damaged
    calls: set[str] = field(default_factory=set)
    first: str = ""

    def add(self, crash: Crash, home: Home) -> None:
        """Open one state as the next start would, and look for every acknowledged record."""
        self.states += 1
        self.calls.add(crash.call)
        before = (self.lost, self.damaged, self.refused.total())
        try:
            log = AuditLog.open(home, config.load(home), SystemClock(), version="after")
            if not log.is_ready:
                log.recover()
            log.close()
            self.damaged += bool(findings(home))
        except ApplianceError as error:
            self.refused[error.code] += 1
        self.lost += bool(set(crash.acknowledged) - acknowledgeable(home))
        if not self.first and before != (self.lost, self.damaged, self.refused.total()):
            self.first = f"call {crash.moment} ({crash.call}), {crash.variant}"


def acknowledgeable(home: Home) -> set[bytes]:
    """The lines that a program would have written of the records that are there, and can be read.

    Without its share a record's content opens for nobody: it is as good as lost.
    """
    try:
        with contextlib.closing(sqlite3.connect(home.database)) as connection:
            rows = connection.execute("SELECT seq, leaf, hdr FROM log_entry").fetchall()
        with contextlib.closing(sqlite3.connect(home.shares)) as connection:
            shares = {None, *(each.hex() for (each,) in connection.execute("SELECT id FROM share"))}
    except sqlite3.Error:
        return set()
    return {
        f"{seq} {leaf.hex()}\n".encode() for seq, leaf, hdr in rows if json.loads(hdr).get("subj") in shares
    }


@pytest.fixture
def fast() -> Iterator[Path]:
    """A folder in memory where there is one: the states need not survive anything."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def states_of(fast: Path, scenario: str, count: int, *mutants: str) -> Iterator[tuple[Crash, Home]]:
    """Trace one scenario, and lay each of its crash states into a home."""
    traced, acks = fast / "traced", fast / "acks"
    before = contents(traced) if traced.exists() else {}
    calls = strace.trace(["tests.fault.traced", scenario, str(traced), str(acks), *mutants], fast / "trace")
    home = Home(root=fast / "crashed")
    for crash in crashes(lambda: Disk(traced, acks, before), calls, count, random.Random(SEED)):
        crash.build(home.root, traced)
        yield crash, home


def suffer(fast: Path, count: int, *mutants: str) -> Tally:
    """Open each crash state of a log's life."""
    home = Home(root=fast / "traced")
    durable.make_private_dir(home.root)
    home.config.write_text('[audit]\norigin = "test/audit/1"\nepoch_records = 16\nballast_mib = 0\n')
    initialise(home, profile="dev")
    tally = Tally()
    for crash, crashed in states_of(fast, "record", count, *mutants):
        tally.add(crash, crashed)
    return tally


def test_no_crash_loses_an_acknowledged_record(fast: Path) -> None:
    """Every state opens (a latched one after recovery), verifies, and holds what was acknowledged."""
    tally = suffer(fast, NUM_STATES)
    log.info("%s", tally)

    assert (tally.lost, dict(tally.refused), tally.damaged) == (0, {}, 0), tally.first
    assert tally.states > NUM_STATES // 2
    assert {"pwrite64", "write", "fdatasync", "fsync", "rename", "openat", "unlink"} <= tally.calls


@pytest.mark.parametrize("mutant", ["synchronous=NORMAL", "head without fsync"])
def test_weaker_write_path_is_caught(fast: Path, mutant: str) -> None:
    """The same look at a write path with one sync less finds lost records, or a log that does not open."""
    tally = suffer(fast, NUM_STATES // 3, mutant)
    log.info("%s", tally)

    assert tally.lost > 0 if mutant == "synchronous=NORMAL" else tally.refused.total() > 0


def test_crash_of_init_is_mended_by_running_it_again(fast: Path) -> None:
    """Whatever the first `init` left, the second one makes a home whose log opens and verifies."""
    failed = []
    states = 0
    for crash, home in states_of(fast, "init", NUM_STATES // 4):
        states += 1
        try:
            initialise(home, profile="dev")
            AuditLog.open(home, config.load(home), SystemClock(), version="after").close()
            problems = findings(home)
        except ApplianceError as error:
            problems = [error.message]
        if problems:
            failed.append((crash.moment, crash.call, crash.variant, problems[:2]))

    assert failed == []
    assert states > NUM_STATES // 9
