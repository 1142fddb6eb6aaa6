"""The audit log: durable appends by number of callers, and reading it all again."""

from __future__ import annotations

import asyncio
import time

from appliance import config, db
from appliance.audit import files, fsck
from appliance.audit.entry import Entry, Kind
from appliance.audit.log import AuditLog
from appliance.audit.report import Expected
from appliance.cli.audit import expected_schema
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.services import STATE_TABLES
from tests.bench.figures import Row, Run
from tests.homes import make_home

SECONDS = 4.0
CONTENT = {"text": "x" * 1024}


def run(run: Run) -> list[Row]:
    """Figures of the log alone; no peer has one."""
    home = make_home(run.folder())
    rows = [
        Row(f"durable appends, {callers} callers", "entries/s", asyncio.run(_appends(home, callers)))
        for callers in (1, 8, 32, 128)
    ]
    began = time.monotonic()
    report = fsck.verify(fsck.SqliteSource(home.database), _expected(home))
    took = time.monotonic() - began
    rows.append(Row("verifying the whole log on one core", "entries/s", report.num_entries / took))
    size = home.database.stat().st_size / report.num_entries
    rows.append(Row("database for an entry of 1 KiB", "bytes", size))
    return rows


async def _appends(home: Home, callers: int) -> float:
    log = AuditLog.open(home, config.load(home), SystemClock(), version="bench")
    count = 0
    deadline = time.monotonic() + SECONDS

    async def caller() -> None:
        nonlocal count
        while time.monotonic() < deadline:
            await log.append(Entry(kind=Kind.AUDIT_SEARCHED, content=CONTENT, actor="bench"))
            count += 1

    began = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(callers)))
    took = time.monotonic() - began
    log.close()
    return count / took


def _expected(home: Home) -> Expected:
    return Expected(
        verifier=files.read_verifier(home),
        schema=expected_schema(),
        revision=db.schema(home.database).head,
        state_tables={each.name: "id" for each in STATE_TABLES},
        head_note=home.head.read_text(encoding="utf-8"),
    )
