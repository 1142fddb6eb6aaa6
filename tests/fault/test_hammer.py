"""The log under load and under the axe: signed trees that only grow, and acknowledgements that hold.

HAMMER_SECONDS sets how long the hammer strikes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from appliance import config, db
from appliance.audit import checkpoint, entry, files, store
from appliance.audit.checkpoint import Checkpoint
from appliance.audit.log import AuditLog
from appliance.audit.merkle import consistency_proof, verify_consistency
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import Outcome
from tests.fault.strace import ROOT
from tests.fault.test_syscall_faults import recorded
from tests.fault.traced import KILLS, opening
from tests.records import assert_verified, findings

CALLERS = 64
SECONDS = float(os.environ.get("HAMMER_SECONDS", "5"))


class Watcher(threading.Thread):
    """Reads signed checkpoints beside the writer, and holds each against the one before."""

    def __init__(self, home: Home) -> None:
        super().__init__(name="watcher", daemon=True)
        self._home = home
        self._verifier = files.read_verifier(home)
        self.stopping = threading.Event()
        self.seen: list[Checkpoint] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.look()
            except Exception as error:  # the test tells it: a thread's end is silent
                self.wrong.append(repr(error))
                return

    def look(self) -> None:
        """One look: whatever is signed includes everything that was signed before."""
        with db.reading(self._home.database) as connection:
            found = store.head(connection)
            assert found is not None
            head = checkpoint.open_checkpoint(found[1], self._verifier)

            def read(level: int, index: int) -> bytes:
                return store.read_node(connection, level, index)

            if self.seen and head.size != self.seen[-1].size:
                old = self.seen[-1]
                proof = consistency_proof(old.size, head.size, read)
                if not verify_consistency(old.size, head.size, old.root, head.root, proof):
                    self.wrong.append(f"the tree of {head.size} does not include the one of {old.size}")
            elif self.seen and head.root != self.seen[-1].root:
                self.wrong.append(f"two trees of {head.size}")
        if not self.seen or head.size != self.seen[-1].size:
            self.seen.append(head)


async def strike(log: AuditLog, caller: int, until: float, acks: set[tuple[int, str]]) -> None:
    """One caller: exchange after exchange."""
    for number in itertools.count():
        if time.monotonic() > until:
            return
        name = f"req_{caller}_{number}"
        opened = await log.append(opening(name, "x" * (100 << (caller % 6))))
        closed = await log.append(entry.closed(name, opened.seq, model="m", outcome=Outcome.STOP))
        acks |= {(each.seq, each.leaf.hex()) for each in (opened, closed)}


async def test_hammer(home: Home) -> None:
    """64 callers at once: every signed tree includes the one before, every receipt is on the record."""
    log = AuditLog.open(home, config.load(home), SystemClock(), version="hammer")
    watcher = Watcher(home)
    watcher.start()
    acks: set[tuple[int, str]] = set()
    until = time.monotonic() + SECONDS
    await asyncio.gather(*(strike(log, caller, until, acks) for caller in range(CALLERS)))
    watcher.stopping.set()
    watcher.join(30)
    log.close()

    assert watcher.wrong == []
    assert len(watcher.seen) > 10
    assert len(acks) > 2 * CALLERS
    assert acks <= recorded(home)
    assert findings(home) == []


@pytest.mark.timeout(240)
def test_no_kill_loses_an_acknowledged_entry(home: Home, tmp_path: Path) -> None:
    """25 processes killed while six callers append: whoever was told, was told the truth."""
    acks = tmp_path / "acks"
    subprocess.run(
        [sys.executable, "-m", "tests.fault.traced", "kill", str(home.root), str(acks)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=200,
    )
    AuditLog.open(home, config.load(home), SystemClock(), version="after").close()
    told = re.findall(r"^(\d+) ([0-9a-f]{64})$", acks.read_text(), re.MULTILINE)

    assert len(told) > KILLS * 20
    assert {(int(seq), leaf) for seq, leaf in told} <= recorded(home)
    assert_verified(home)
