"""The audit log: appends by number of callers and in batches, and a record of a million entries read."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance import config
from appliance.audit import fsck, query, shares
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.recipients import parse_identity
from appliance.cli.init import DEV_IDENTITY
from appliance.clock import SystemClock
from appliance.config import Home
from tests.bench import audit_log, audit_search
from tests.bench.figures import Row, Run
from tests.homes import make_home
from tests.verifying import expected_of

SECONDS = 4.0
SCANNED = 100_000
BATCHED = 30_000
CONTENT = {"text": "x" * 1024}


def run(run: Run) -> list[Row]:
    """Figures of the log alone; no peer has one. A target's peer is the target itself."""
    home = make_home(run.folder())
    rows = [
        _row(
            f"durable appends, {callers} callers",
            "entries/s",
            asyncio.run(_appends(home, callers)),
            least=2 * 1_200 if callers == 32 else None,  # a request is an opening and a closing
        )
        for callers in (1, 8, 32, 128)
    ]
    batched = audit_log.fill(make_home(run.folder()), BATCHED)
    rows.append(_row("durable appends, batches of 256", "entries/s", batched, least=5_000))
    home = audit_log.million(run)
    read = json.loads(_alone("verify", home))
    run.note(
        f"verify: {read['entries']:,} entries in {read['wall']:.1f} s, resident {read['rss_mib']:.0f} MiB, "
        f"of which {read['rss_before_mib']:.0f} MiB before it began; "
        f"{read['share_of_integrity']:.0%} of the time is SQLite's own integrity check, indexes included"
    )
    rows.append(_row("verifying the whole record", "entries/s per core", read["rate"], least=100_000))
    rows += audit_search.run(run, home)
    scanned = json.loads(_alone("scan", home))
    rows.append(_row("search through contents", "entries/s per core", scanned["rate"], least=25_000))
    size = sum(path.stat().st_size for path in home.root.glob("appliance.db*"))
    rows.append(_row("database for an entry of about 1 KiB", "bytes", size / read["entries"]))
    return rows


def _row(
    label: str, unit: str, value: float, *, least: float | None = None, most: float | None = None
) -> Row:
    bound = least or most
    return Row(
        label,
        unit,
        value,
        peer_name="target" if bound else "",
        peer=bound,
        at_least=1 if least else None,
        at_most=1 if most else None,
    )


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


def _alone(what: str, home: Home) -> str:
    """A reading in a process of its own: its processor time and memory are nobody else's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.audit", what, str(home.root)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def _verify(home: Home) -> dict[str, float]:
    expected = expected_of(home)
    before = _rss_mib()
    with fsck.SqliteSource(home.database) as source:
        began = time.process_time()
        list(source.problems())
        integrity = time.process_time() - began
    began, wall = time.process_time(), time.monotonic()
    report = fsck.verify(fsck.SqliteSource(home.database), expected)
    took = time.process_time() - began
    if not report.is_green:
        raise SystemExit(f"the bench's record is red: {report.findings[:3]}")
    return {
        "entries": report.num_entries,
        "rate": report.num_entries / took,
        "wall": time.monotonic() - wall,
        "share_of_integrity": integrity / took,
        "rss_mib": _rss_mib(),
        "rss_before_mib": before,
    }


def _scan(home: Home) -> dict[str, float]:
    """Contents opened with the auditor's key and looked through for a word."""
    identity = parse_identity((home.keys / DEV_IDENTITY).read_text(encoding="utf-8"))
    released = {each.hex(): secret for each, secret in shares.release(home, shares.ids(home)).items()}
    began = time.process_time()
    count = found = 0
    for each in query.scan(home.database, [identity], released, before_seq=SCANNED):
        count += 1
        found += "needle" in str((each.content or {}).get("output", ""))
    return {"rate": count / (time.process_time() - began), "found": found}


def _rss_mib() -> float:
    """The most memory that this process held so far; a child's rusage begins with its parent's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


WORK: dict[str, Callable[[Home], dict[str, float]]] = {"verify": _verify, "scan": _scan}

if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](Home(root=Path(sys.argv[2])))))
