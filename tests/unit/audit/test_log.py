"""The sequencer and its log: durable, recovered, latched, blind to what it sealed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

import appliance
from appliance import config
from appliance.audit import entry, query
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.pending import Stop
from appliance.audit.sequencer import Sequencer
from appliance.config import Home
from appliance.core import Delta, Outcome
from appliance.errors import AuditUnavailable, SetupError, VerificationError
from tests.clocks import ManualClock
from tests.harness import appliance as program
from tests.records import assert_verified, place

PINNED = {"code": "test"}


def open_log(home: Home, clock: ManualClock) -> AuditLog:
    return AuditLog.open(home, config.load(home), clock, version=appliance.__version__)


def opening(request_id: str, text: str = "hello") -> Entry:
    return Entry(
        kind=Kind.REQUEST_OPENED,
        public={"model": "m", "model_sha256": "0" * 64, "stream": 1},
        content={"text": text},
        request_id=request_id,
        actor="key",
    )


def kinds(home: Home) -> list[Kind]:
    return [record.kind for record in query.search(place(home), limit=1000)][::-1]


async def test_append_is_durable_when_it_returns(home: Home, clock: ManualClock) -> None:
    """Another connection sees the entry the moment `append` has returned, under its receipt."""
    log = open_log(home, clock)
    receipt = await log.append(opening("req_1"))
    found = query.by_request(place(home), "req_1")
    log.close()

    assert [(each.seq, each.leaf) for each in found] == [(receipt.seq, receipt.leaf)]
    assert receipt.record == f"{log.origin}/{receipt.seq}"


async def test_concurrent_appends_share_commits(home: Home, clock: ManualClock) -> None:
    """200 waiting callers need far fewer than 200 commits, and each gets its own place."""
    log = open_log(home, clock)
    wal = home.root / "appliance.db-wal"
    receipts = await asyncio.gather(*(log.append(opening(f"req_{n}")) for n in range(200)))
    num_frames = wal.stat().st_size // 4096
    log.close()

    assert len({receipt.seq for receipt in receipts}) == 200
    assert num_frames < 200 * 4
    assert_verified_with_open(home, 200)


def assert_verified_with_open(home: Home, num_open: int) -> None:
    done = program("audit", "verify", home=home, check=False)
    assert done.stdout.count("was never closed") == min(num_open, 100)


def test_second_writer_loses_loudly(home: Home, clock: ManualClock) -> None:
    """One home, one writer."""
    log = open_log(home, clock)
    with pytest.raises(SetupError) as refused:
        open_log(home, clock)
    log.close()

    assert refused.value.code == "already_running"


def test_recovery_closes_what_was_open(home: Home, clock: ManualClock) -> None:
    """After a crash each opening without a closing gets one, once; closed ones get none."""
    log = open_log(home, clock)
    first = log.append_sync(opening("req_open"))
    log.append_sync(entry.segment("req_open", first.seq, 0, Delta("partial", 1), subject="key:k"))
    second = log.append_sync(opening("req_done"))
    log.append_sync(entry.closed("req_done", second.seq, model="m", outcome=Outcome.STOP))
    log.close()  # closes the log, not the request: as a crash leaves it
    for _ in range(2):
        open_log(home, clock).close()

    closings = [
        (record.request_id, record.public["outcome"], record.public["num_segments"])
        for record in query.search(place(home), kind=Kind.REQUEST_CLOSED)
    ]
    assert sorted(closings) == [("req_done", "stop", 0), ("req_open", "recovered", 1)]
    assert_verified(home)


@pytest.mark.parametrize("victim", ["appliance.db", "appliance.db-wal"])
def test_removed_file_latches_before_anything_is_acknowledged(
    home: Home, clock: ManualClock, victim: str
) -> None:
    """SQLite would commit into the unlinked file; the log refuses, stays closed, and says why."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    (home.root / victim).unlink()
    with pytest.raises(AuditUnavailable):
        log.append_sync(opening("req_2"))

    assert not log.is_ready
    assert victim in log.check().reason
    log.close()


def test_replaced_file_is_noticed_while_idle(home: Home, clock: ManualClock) -> None:
    """A copy put in the file's place has the same bytes and is still another file."""
    log = open_log(home, clock)
    copy = home.root / "copy.db"
    shutil.copy(home.database, copy)
    copy.replace(home.database)

    assert not log.check().is_ready
    log.close()


def test_storage_error_latches_and_the_latch_stays(home: Home, clock: ManualClock) -> None:
    """An error of the database closes the log for this process and for the next one."""
    log = open_log(home, clock)
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as intruder:
        intruder.execute("ALTER TABLE node RENAME TO elsewhere")
    with pytest.raises(AuditUnavailable):
        log.append_sync(opening("req_1"))
    log.close()
    again = open_log(home, clock)

    assert not again.is_ready
    with pytest.raises(AuditUnavailable):
        again.append_sync(opening("req_2"))
    with pytest.raises(SetupError) as refused:
        again.recover()
    assert refused.value.code == "recovery_failed"
    assert not again.is_ready
    again.close()
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as repair:
        repair.execute("ALTER TABLE elsewhere RENAME TO node")
    third = open_log(home, clock)
    third.recover()
    third.append_sync(opening("req_3"))
    third.close()


def test_damaged_latch_is_a_latch(home: Home, clock: ManualClock) -> None:
    """When in doubt the log is closed."""
    home.latch.write_bytes(b"garbage")
    log = open_log(home, clock)

    assert not log.is_ready
    log.recover()
    assert log.is_ready
    log.close()


def test_older_database_is_not_written_to(home: Home, clock: ManualClock) -> None:
    """A restored backup is older than the head file remembers: opening it is refused."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    log.close()
    saved = home.root / "saved"
    shutil.copy(home.database, saved)
    log = open_log(home, clock)
    log.append_sync(opening("req_2"))
    log.close()
    shutil.copy(saved, home.database)

    with pytest.raises(SetupError) as refused:
        open_log(home, clock)
    assert refused.value.code == "rolled_back"


@pytest.mark.parametrize("damage", ["missing", "forged", "other origin"])
def test_head_file_is_needed_and_believed_only_signed(home: Home, clock: ManualClock, damage: str) -> None:
    """Without its memory outside the database the log does not open."""
    match damage:
        case "missing":
            home.head.unlink()
        case "forged":
            home.head.write_text(home.head.read_text().replace("\n1\n", "\n0\n"))
        case _:
            text = home.config.read_text().replace("appliance-", "another-")
            home.config.write_text(text)
    with pytest.raises((SetupError, VerificationError)):
        open_log(home, clock)


def test_time_never_runs_backwards_on_the_record(home: Home, clock: ManualClock) -> None:
    """A clock that is set back leaves a rising order of times."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    clock.wall_us -= 3_600_000_000
    log.append_sync(opening("req_2"))
    log.close()
    times = [record.ts for record in query.search(place(home), limit=1000)][::-1]

    assert times == sorted(set(times))


def test_epochs_end_with_time_and_with_records(home: Home, clock: ManualClock) -> None:
    """A new epoch, with a new secret, begins after `epoch_seconds`."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    log.append_sync(opening("req_2"))
    clock.advance(601)
    log.append_sync(opening("req_3"))
    log.close()

    assert kinds(home).count(Kind.EPOCH_OPENED) == 2


async def test_cancelled_caller_does_not_cancel_the_write(home: Home, clock: ManualClock) -> None:
    """Law 6: the entry is on the record although nobody waited for it any more."""
    log = open_log(home, clock)
    waiting = asyncio.create_task(log.append(opening("req_gone")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await log.append(opening("req_next"))
    log.close()

    assert len(query.by_request(place(home), "req_gone")) == 1


async def test_long_queue_is_no_blocked_disk(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured is how long the disk takes, not how many wait for it."""
    log = open_log(home, clock)
    genuine = Sequencer.commit

    def slow(self: Sequencer, entries: list[Entry]) -> object:
        time.sleep(0.4)
        return genuine(self, entries)

    monkeypatch.setattr(Sequencer, "commit", slow)
    monkeypatch.setattr("appliance.audit.pending.MAX_BATCH", 1)
    receipts = await asyncio.gather(*(log.append(opening(f"req_{n}")) for n in range(7)))
    log.close()

    assert len({each.seq for each in receipts}) == 7


async def test_dead_writer_is_a_failed_log(home: Home, clock: ManualClock) -> None:
    """A writer that is gone commits nothing: its callers are told, and do not wait for ever."""
    log = open_log(home, clock)
    log._queue.put(Stop())
    log._thread.join(10)
    with pytest.raises(AuditUnavailable):
        await log.append(opening("req_1"))

    assert not log.is_ready


async def test_blocked_disk_is_a_failed_disk(home: Home, clock: ManualClock) -> None:
    """A commit that does not end in time closes the log within its deadline."""
    log = open_log(home, clock)
    await log.append(opening("req_1"))
    blocker = sqlite3.connect(home.database, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    began = asyncio.get_running_loop().time()
    with pytest.raises(AuditUnavailable):
        await log.append(opening("req_2"))
    took = asyncio.get_running_loop().time() - began
    blocker.execute("ROLLBACK")
    blocker.close()

    assert took < 3.5
    assert not log.is_ready
    log.close()


def test_files_are_private(home: Home, clock: ManualClock) -> None:
    """Nobody but the owner reads anything in the home; the one public file is the verifier's key."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    open_to_others = [
        path.relative_to(home.root)
        for path in home.root.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and home.models not in path.parents
    ]
    log.close()

    assert open_to_others == [Path("keys/log.vkey")]
