"""A large record for the bench: made by the real sequencer in batches, and kept for the next run."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from pathlib import Path

from appliance import config, db
from appliance.audit import entry, header, sequencer, tables
from appliance.audit.entry import Entry, Kind
from appliance.audit.sequencer import Sequencer, Start
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import Outcome, Timings, Usage
from tests.bench.figures import Run
from tests.homes import make_home

ENTRIES = 1_000_000
ACTORS = 200
PAIRS = 128  # openings with their closings in a batch of 256
CACHE = Path(__file__).resolve().parent.parent.parent / "build" / "bench"
_TEXT = "x" * 900
_MODEL = "smollm2-135m-instruct"


def million(run: Run) -> Home:
    """`ENTRIES` entries, requests and their answers of 200 keys, about 1 KiB of content each."""
    root = CACHE / f"record-{_version()}"
    if not (root / "whole").exists():
        for old in CACHE.glob("record-*"):
            shutil.rmtree(old)
        run.say(f"writing a record of {ENTRIES:,} entries: some minutes, once")
        fill(make_home(root), ENTRIES)
        (root / "whole").touch()
    return Home(root=root)


def fill(home: Home, size: int) -> float:
    """Write until the record has `size` entries; entries per second, each batch on one commit."""
    log = Sequencer(home, db.at(home.database), config.load(home).audit, SystemClock())
    log.open(Start(kind=Kind.LOG_STARTED, public={}))
    begin, began = log.size, time.monotonic()
    running: list[tuple[Entry, int]] = []
    number = 0
    while log.size < size or running:
        # Each batch closes what the one before opened: 256 entries on one commit.
        openings = [_opening(number + each) for each in range(PAIRS if log.size < size else 0)]
        number += len(openings)
        receipts = log.commit([*(_closing(opening, seq) for opening, seq in running), *openings])
        seqs = [receipt.seq for receipt in receipts[len(running) :]]
        running = list(zip(openings, seqs, strict=True))
    rate = (log.size - begin) / (time.monotonic() - began)
    log.write_head()
    log.close()
    return rate


def _opening(number: int) -> Entry:
    actor = f"key{number % ACTORS}"
    return Entry(
        kind=Kind.REQUEST_OPENED,
        public={"endpoint": "chat", "model": _MODEL, "model_sha256": "0" * 64, "stream": 1},
        content={"messages": [{"role": "user", "content": _TEXT}], "principal": {"key_id": actor}},
        request_id=f"req_{secrets.token_hex(16)}",
        actor=actor,
        subject=f"key:{actor}",
    )


def _closing(opening: Entry, seq: int) -> Entry:
    return entry.closed(
        str(opening.request_id),
        seq,
        model=_MODEL,
        outcome=Outcome.STOP,
        usage=Usage(300, 80, 12),
        timings=Timings(1_000, 20_000, 300_000),
        output_sha256="a" * 64,
        output=_TEXT,
        subject=opening.subject,
    )


def _version() -> str:
    """Of what decides the record's form: other code makes another record."""
    digest = hashlib.sha256()
    for module in (entry, header, sequencer, tables):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:12]
