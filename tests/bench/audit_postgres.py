"""The same log on a PostgreSQL server of this machine, beside itself on SQLite: durable appends, batches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from appliance import config, db
from appliance.audit.entry import Entry
from appliance.audit.files import take_lock
from appliance.audit.kinds import Kind
from appliance.audit.sequencer import Sequencer, Start
from appliance.clock import SystemClock
from appliance.config import Home
from tests.bench import audit
from tests.bench.figures import Row, Run
from tests.homes import make_home
from tests.servers import binaries, make_server_home, server

BATCH = 256
BATCHES = 40


def run(run: Run) -> list[Row]:
    """Callers wait for a connection over a unix socket, and for its disk."""
    if binaries() is None:
        run.note("PostgreSQL is not installed, so it is left out")
        return []
    with server() as running:
        homes = (
            make_server_home(run.folder(), running, running.new_database()),
            make_home(run.folder()),
        )
        rows = [
            _row(
                f"durable appends, {callers} callers",
                *(asyncio.run(audit._appends(h, callers)) for h in homes),
            )
            for callers in (1, 32)
        ]
        rows.append(_row(f"in batches of {BATCH}", *map(_batches, homes)))
    return rows


def _row(label: str, ours: float, embedded: float) -> Row:
    return Row(label, "entries/s", ours, "SQLite", embedded)


def _batches(home: Home) -> float:
    settings = config.load(home)
    entries = [Entry(kind=Kind.AUDIT_SEARCHED, content=audit.CONTENT, actor="bench") for _ in range(BATCH)]
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, take_lock(home))
        sequencer = Sequencer(home, db.of(home, settings), settings.audit, SystemClock())
        stack.callback(sequencer.close)
        sequencer.open(Start(Kind.LOG_STARTED, {"version": "bench"}))
        began = time.monotonic()
        for _ in range(BATCHES):
            sequencer.commit(entries)
        took = time.monotonic() - began
        sequencer.write_head()
    return BATCH * BATCHES / took
