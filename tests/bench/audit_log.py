"""A large record for the bench: made by the real sequencer in batches, and kept for the next run."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from pathlib import Path

from appliance import config, db
from appliance.audit import entry, header, sequencer, tables
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.sequencer import Sequencer, Start
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import Delta, Outcome, Timings, Usage
from tests.bench.figures import Run
from tests.homes import make_home

ENTRIES = 1_000_000
ACTORS = 200
PAIRS = 128  # openings with their closings in a batch of 256
CACHE = Path(__file__).resolve().parent.parent.parent / "build" / "bench"
_TEXT = "x" * 900
MODELS = ("smollm2-135m-instruct", "another-model")  # one request of RARE is the other's
RARE = 5_000


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
    running: list[tuple[int, Entry, int]] = []
    number = 0
    while log.size < size or running:
        # Each batch closes what the one before opened: 256 entries on one commit.
        openings = [_opening(number + each) for each in range(PAIRS if log.size < size else 0)]
        receipts = log.commit([*(_closing(*each) for each in running), *openings])
        seqs = [receipt.seq for receipt in receipts[len(running) :]]
        running = list(zip(range(number, number + len(openings)), openings, seqs, strict=True))
        number += len(openings)
    rate = (log.size - begin) / (time.monotonic() - began)
    log.write_head()
    log.close()
    return rate


def _opening(number: int) -> Entry:
    actor = actor_of(number)
    return Entry(
        kind=Kind.REQUEST_OPENED,
        public={
            "endpoint": "chat",
            "model": MODELS[number % RARE == 0],
            "model_sha256": "0" * 64,
            "stream": 1,
        },
        content={"messages": [{"role": "user", "content": _TEXT}], "principal": {"key_id": actor}},
        request_id=f"req_{secrets.token_hex(16)}",
        actor=actor,
        user=f"citizen-{number % 20_000}",
        session=f"session-{number // 5}",
        address=f"10.0.{number % 7}.{number % 250}",
        subject=f"key:{actor}",
    )


def actor_of(number: int) -> str:
    """One key asks a third of everything, the others share the rest."""
    return "key0" if number % 3 == 0 else f"key{number % ACTORS}"


def _ended(number: int) -> tuple[Outcome, str]:
    """Most as they should; failures are one in a thousand, and one sort of them one in 100,000."""
    if number % 100_000 == 77:
        return Outcome.FAILED, "out_of_memory"
    if number % 1_000 == 7:
        return Outcome.FAILED, "engine_failed"
    if number % 20 == 3:
        return Outcome.LENGTH, ""
    return Outcome.CLIENT_GONE if number % 50 == 9 else Outcome.STOP, ""


def _closing(number: int, opening: Entry, seq: int) -> Entry:
    outcome, code = _ended(number)
    return entry.closed(
        str(opening.request_id),
        seq,
        model=MODELS[number % RARE == 0],
        outcome=outcome,
        code=code,
        usage=Usage(50 + number % 1_000, number % 400, 12),
        timings=Timings(1_000, 20_000, 300_000),
        output_sha256="a" * 64,
        rest=[Delta(_TEXT, 0)],
        subject=opening.subject,
    )


def _version() -> str:
    """Of what decides the record's form: other code makes another record."""
    digest = hashlib.sha256()
    for module in (entry, header, sequencer, tables):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:12]
