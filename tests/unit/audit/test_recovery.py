"""Recovery: an operator's act that closes each open request once, makes nothing, and can be repeated."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from appliance import db
from appliance.audit import entry, files, query
from appliance.audit.entry import Entry
from appliance.audit.files import Latch
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.sequencer import Sequencer
from appliance.cli.init import initialise
from appliance.config import Home
from appliance.core import Delta, Outcome
from appliance.errors import AuditUnavailable, SetupError, VerificationError
from tests.clocks import ManualClock
from tests.harness import wait_until
from tests.records import assert_verified, closing_of, place
from tests.unit.audit.test_log import open_log, opening


def latch_and_free(log: AuditLog, home: Home) -> None:
    """Close the log by taking its WAL away, and put that back."""
    wal, aside = home.root / "appliance.db-wal", home.root / "aside"
    wal.rename(aside)
    assert not log.check().is_ready
    aside.rename(wal)


def closing(request_id: str, seq: int) -> Entry:
    return entry.closed(request_id, seq, model="m", outcome=Outcome.STOP)


def test_recovery_of_a_healthy_log_changes_nothing(home: Home, clock: ManualClock) -> None:
    """Requests that are running stay open, and get the one closing that is their own."""
    log = open_log(home, clock)
    receipt = log.append_sync(opening("req_running"))
    log.recover()
    log.append_sync(closing("req_running", receipt.seq))
    log.close()

    assert closing_of(home, "req_running").public["outcome"] == "stop"
    assert_verified(home)


def test_request_that_recovery_has_closed_writes_no_more(home: Home, clock: ManualClock) -> None:
    """A request that outlived the latch finds its record closed; what is new goes on."""
    log = open_log(home, clock)
    receipt = log.append_sync(opening("req_slow"))
    latch_and_free(log, home)
    log.recover()
    for late in (
        entry.segment("req_slow", receipt.seq, 0, Delta("text", 1), subject="key:k"),
        closing("req_slow", receipt.seq),
    ):
        with pytest.raises(AuditUnavailable):
            log.append_sync(late)
    following = log.append_sync(opening("req_new"))
    log.append_sync(closing("req_new", following.seq))

    assert log.is_ready
    log.close()
    assert closing_of(home, "req_slow").public["outcome"] == "recovered"
    assert_verified(home)


def test_recovery_makes_no_database_where_there_is_none(home: Home, clock: ManualClock) -> None:
    """A removed database stays missing: an empty one in its place would hide that."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    home.database.rename(home.root / "taken")
    assert not log.check().is_ready
    with pytest.raises(SetupError) as refused:
        log.recover()
    log.close()

    assert refused.value.code == "database_missing"
    assert not home.database.exists()


def test_missing_latch_is_a_latch_and_can_be_opened(home: Home, clock: ManualClock) -> None:
    """A latch file that is gone keeps the log closed, and recovery makes it anew."""
    home.latch.unlink()
    log = open_log(home, clock)
    assert not log.is_ready
    log.recover()
    log.append_sync(opening("req_1"))
    log.close()

    assert Latch(home.latch).reason() == ""


@pytest.mark.parametrize("damage", [b"\xff\xfe", b""])
def test_head_file_that_is_no_text_is_a_setup_error(home: Home, clock: ManualClock, damage: bytes) -> None:
    """Damage of the head file is told as such, not as a crash."""
    home.head.write_bytes(damage)
    with pytest.raises(VerificationError):
        open_log(home, clock)


def test_damaged_database_is_a_setup_error(home: Home, clock: ManualClock) -> None:
    """A file that SQLite can not read keeps the log from opening, in words for the operator."""
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'node'").fetchone()
    data = bytearray(home.database.read_bytes())
    data[4096 * (page - 1) : 4096 * page] = b"\xa5" * 4096
    home.database.write_bytes(data)
    with pytest.raises(SetupError) as refused:
        open_log(home, clock)

    assert refused.value.code == "log_unreadable"


def test_init_opens_no_latch_and_replaces_no_key(home: Home) -> None:
    """On a home with a record a missing latch stays a latch, and missing keys are an error."""
    home.latch.unlink()
    initialise(home, profile="dev")
    assert Latch(home.latch).reason() != ""

    public = (home.keys / "log.vkey").read_bytes()
    for path in (home.keys / "log.ed25519", home.keys / "shares-1.kek", home.shares):
        secret = path.read_bytes()
        path.unlink()
        with pytest.raises(SetupError):
            initialise(home, profile="dev")
        assert not path.exists()
        assert (home.keys / "log.vkey").read_bytes() == public
        path.write_bytes(secret)


@pytest.mark.parametrize("crashed", ["before the schema", "behind the schema"])
def test_init_goes_on_where_it_was_interrupted(tmp_path: Path, clock: ManualClock, crashed: str) -> None:
    """A crash before the first entry is mended by running init again."""
    home = Home(root=tmp_path / "home")
    for directory in (home.root, home.keys):
        directory.mkdir()
    home.config.write_text('[audit]\norigin = "test/audit/1"\n')
    files.create_keys(home)
    Latch(home.latch).create()
    if crashed == "before the schema":
        home.database.touch()
    else:
        db.upgrade(home, db.at(home.database), clock)
    initialise(home, profile="dev")
    open_log(home, clock).close()

    assert_verified(home)
    assert query.search(place(home), limit=100)[-1].kind is Kind.POLICY_PINNED


def test_append_behind_the_close_fails_at_once_and_latches_nothing(home: Home, clock: ManualClock) -> None:
    """Who comes too late is told so; the next start finds an open log."""
    log = open_log(home, clock)
    log.close()
    with pytest.raises(AuditUnavailable):
        log.append_sync(opening("req_late"))
    with pytest.raises(SetupError):
        log.recover()
    log.check()

    assert Latch(home.latch).reason() == ""


def test_appends_during_the_close_end(home: Home, clock: ManualClock) -> None:
    """Each of many callers beside a close gets a receipt or a refusal, and nothing latches."""
    log = open_log(home, clock)
    outcomes: list[str] = []

    def append_on(number: int) -> None:
        for each in range(200):
            try:
                log.append_sync(opening(f"req_{number}_{each}"))
            except AuditUnavailable:
                outcomes.append("refused")
                return

    threads = [threading.Thread(target=append_on, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    log.close()
    for thread in threads:
        thread.join(10)

    assert Latch(home.latch).reason() == ""
    assert len(outcomes) <= 8


def test_lock_is_kept_while_the_writer_still_writes(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that waits for its disk keeps the home: a second one would fork the record."""
    log = open_log(home, clock)
    release = threading.Event()
    genuine = Sequencer.commit

    def slow(self: Sequencer, entries: list[Entry]) -> object:
        release.wait(10)
        return genuine(self, entries)

    monkeypatch.setattr(Sequencer, "commit", slow)
    monkeypatch.setattr("appliance.audit.log.JOIN_SECONDS", 0.1)
    log.close()
    with pytest.raises(SetupError) as refused:
        open_log(home, clock)
    assert refused.value.code == "already_running"
    release.set()
    log._thread.join(10)


async def test_blocked_disk_does_not_stop_the_event_loop(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even the latch can not be written in time, callers are told all the same."""
    log = open_log(home, clock)
    release = threading.Event()
    monkeypatch.setattr(Latch, "set", lambda _self, _reason: release.wait(30))
    monkeypatch.setattr(Sequencer, "commit", lambda _self, _entries: release.wait(30))
    began = asyncio.get_running_loop().time()
    with pytest.raises(AuditUnavailable):
        await log.append(opening("req_1"))
    took = asyncio.get_running_loop().time() - began
    release.set()

    assert took < 4
    assert not log.is_ready
    log.close()


def test_reason_in_a_damaged_latch_does_not_keep_it_closed(home: Home, clock: ManualClock) -> None:
    """Whatever somebody wrote into the latch, recovery can say it on the record."""
    home.latch.write_bytes(b'{"latched": "\\ud800' + b"x" * 5000 + b'"}')
    log = open_log(home, clock)
    assert not log.is_ready
    log.recover()

    assert log.is_ready
    log.close()


def test_second_close_closes_nothing_more(home: Home, clock: ManualClock) -> None:
    """A descriptor that was reused meanwhile is not closed under its new owner."""
    log = open_log(home, clock)
    log.close()
    with home.config.open("rb") as other:
        log.close()
        assert other.read(1)


async def test_stalled_event_loop_is_no_blocked_disk(home: Home, clock: ManualClock) -> None:
    """A commit that ended in time counts, although its caller looks only later."""
    log = open_log(home, clock)
    waiting = asyncio.create_task(log.append(opening("req_1")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(2.5)  # noqa: ASYNC251 - the stall
    receipt = await waiting
    log.close()

    assert receipt.seq > 0


def test_idle_writer_holds_no_plaintext(home: Home, clock: ManualClock) -> None:
    """Behind the commit nothing of ours keeps the question alive, also when no other one follows."""

    def is_held() -> bool:
        return any(isinstance(o, Entry) and o.request_id == "req_canary" for o in gc.get_objects())

    log = open_log(home, clock)
    log.append_sync(opening("req_canary"))
    wait_until(lambda: not is_held(), seconds=3)
    log.close()
