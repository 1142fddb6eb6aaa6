"""Verifications that the gateway records: green goes on, red closes, acknowledged red is only told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance import config, verification
from appliance.alone import Alone, open_log_alone
from appliance.audit import query
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.verdict import Verification
from appliance.config import Home
from appliance.control import ControlServer
from appliance.core import Principal, Role
from appliance.errors import AuditUnavailable
from appliance.verification import Verifications
from tests.clocks import ManualClock
from tests.verifying import unguarded, verify

GREEN = Verification(begin=0, size=3, root="0" * 64, findings=[], findings_sha256="", duration_us=5)
RED = Verification(
    begin=0, size=3, root="0" * 64, findings=["entry 1: bad"], findings_sha256="aa", duration_us=5
)


def results(home: Home) -> list[dict[str, str | int]]:
    return [each.public for each in query.search(home.database, kind=Kind.LOG_VERIFIED)][::-1]


async def test_green_result_is_recorded_and_the_log_goes_on(home: Home, clock: ManualClock) -> None:
    """The record tells size, root and duration; `last` is what /readyz and /metrics show."""
    with open_log_alone(home, config.load(home), clock) as alone:
        found = alone.administration.verifications
        await found.record(GREEN)

        assert alone.audit.is_ready
        assert found.last == verification.Last(is_green=True, size=3, ts=clock.now_us())
    assert [(each["size"], each["findings"]) for each in results(home)] == [(3, 0)]


async def test_red_result_is_recorded_and_latches(home: Home, clock: ManualClock) -> None:
    """Law 4: a record that was tampered with is not written on; the reason names the first finding."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.administration.verifications.record(RED)

        state = alone.audit.check()
        assert (state.is_ready, "entry 1: bad" in state.reason) == (False, True)
        with pytest.raises(AuditUnavailable):
            await alone.audit.append(Entry(kind=Kind.LOG_ALARM, public={"code": "x"}))
    assert [each["findings"] for each in results(home)] == [1]
    assert "entry 1: bad" in home.latch.read_text()


async def test_acknowledged_findings_do_not_latch_again_and_new_ones_do(
    home: Home, clock: ManualClock
) -> None:
    """`audit recover` behind a red result says that an operator has looked at exactly these findings."""
    worse = Verification(
        **{name: getattr(RED, name) for name in RED.__struct_fields__} | {"findings_sha256": "bb"}
    )
    with open_log_alone(home, config.load(home), clock) as alone:
        found = alone.administration.verifications
        await found.record(RED)
        await alone.administration.recover()
        await found.record(RED)
        assert alone.audit.is_ready
        assert found.last is not None
        assert not found.last.is_green
        await found.record(worse)
        assert not alone.audit.is_ready


async def run_once(alone: Alone, home: Home) -> Verifications:
    server = ControlServer(home.control_socket, alone)
    await server.start()
    try:
        await alone.administration.verifications._run()
    finally:
        await server.stop()
    return alone.administration.verifications


async def test_the_process_of_its_own_reports_back(home: Home, clock: ManualClock) -> None:
    """First everything; then, within the week, only what came since. Requests may be open meanwhile."""
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(
            Entry(
                kind=Kind.REQUEST_OPENED,
                public={"model": "m", "model_sha256": "0" * 64, "stream": 1},
                request_id="req_open",
            )
        )
        size = alone.audit.tree_size
        await run_once(alone, home)
        clock.advance(1800)  # less than a heartbeat: nothing else is written meanwhile
        found = await run_once(alone, home)
        assert found.last is not None
        assert found.last.is_green
        assert alone.audit.is_ready

    assert [(each["begin"], each["size"]) for each in results(home)] == [(0, size), (size, size + 1)]


async def test_somebody_asks_for_one_and_stands_on_the_record(home: Home, clock: ManualClock) -> None:
    """It begins at once, tells how far it is, and there is one at a time."""
    with open_log_alone(home, config.load(home), clock) as alone:
        found = alone.administration.verifications
        server = ControlServer(home.control_socket, alone)
        await server.start()
        found.start()
        try:
            assert found.ask(Principal("p_ada", "Ada", Role.AUDITOR), is_full=True)
            assert not found.ask(Principal("p_bo", "Bo", Role.AUDITOR), is_full=True)
            reading = None
            while found.is_waiting:
                reading = found.reading or reading
                await asyncio.sleep(0.01)
        finally:
            await found.stop()
            await server.stop()
        assert found.last is not None
        assert found.last.is_green
        assert reading is not None
        assert reading.done == reading.total > 0

    (record,) = query.search(home.database, kind=Kind.LOG_VERIFIED)
    assert record.public["begin"] == 0
    assert "key" in (record.header.bi or {})


async def test_a_week_later_everything_is_read_again(home: Home, clock: ManualClock) -> None:
    """What lies before the last verification is not believed for ever."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await run_once(alone, home)
        clock.advance(7 * 86_400)
        await run_once(alone, home)

    assert [each["begin"] for each in results(home)] == [0, 0]


async def test_tampering_under_the_running_gateway_closes_the_log(home: Home, clock: ManualClock) -> None:
    """A column that somebody edits behind the writer's back is found by the next verification."""
    with open_log_alone(home, config.load(home), clock) as alone:
        with unguarded(home.database) as sql:
            sql.execute("UPDATE log_entry SET model = 'other' WHERE seq = 1")
        await run_once(alone, home)

        assert "entry 1: a column differs" in alone.audit.check().reason


async def test_a_reading_that_can_not_be_made_is_an_alarm(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither green nor red: told on the record and on /readyz, and no latch."""
    with open_log_alone(home, config.load(home), clock) as alone:
        (home.keys / "log.vkey").unlink()
        found = await run_once(alone, home)

        assert alone.audit.is_ready
        assert found.last is not None
        assert not found.last.is_green
    alarms = query.search(home.database, kind=Kind.LOG_ALARM)
    assert [each.public["code"] for each in alarms] == ["verify_not_run"]


async def test_a_stop_ends_a_reading_that_runs(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The gateway leaves at once, and without an alarm."""
    begun = tmp_path / "begun"
    monkeypatch.setattr(verification, "_PROGRAM", ("/bin/sh", "-c", f"touch {begun}; exec sleep 60", "sh"))
    monkeypatch.setattr(verification, "_LEAST_DELAY_SECONDS", 0)
    with open_log_alone(home, config.load(home), clock) as alone:
        found = alone.administration.verifications
        found.last = verification.Last(is_green=True, size=1, ts=0)
        task = asyncio.create_task(found._run_for_ever())
        async with asyncio.timeout(10):
            while not begun.exists():
                await asyncio.sleep(0.01)
            found._runner = task
            await found.stop()
    assert query.search(home.database, kind=Kind.LOG_ALARM) == []


async def test_the_record_tells_when_it_was_verified_last(home: Home, clock: ManualClock) -> None:
    """A restart neither forgets a result nor puts the next one off for ever."""
    settings = config.load(home)
    clock.advance(100_000_000)  # the home was made by the clock on the wall
    with open_log_alone(home, settings, clock) as alone:
        await alone.administration.verifications.record(GREEN)
        then = clock.now_us()
    clock.advance(1800)
    with open_log_alone(home, settings, clock) as alone:
        found = alone.administration.verifications
        found.start()
        assert found.last is not None
        assert (found.last.is_green, found.last.size) == (True, 3)
        assert 0 <= found.last.ts - then < 1000
        assert 1700 < found._seconds_to_next() < 1801
        clock.advance(86_400)
        assert found._seconds_to_next() == verification._LEAST_DELAY_SECONDS
        await found.stop()


def test_latch_is_open_to_everybody_who_finds_something(home: Home, clock: ManualClock) -> None:
    """`AuditLog.latch` is the same latch as that of a failed disk."""
    log = AuditLog.open(home, config.load(home), clock, version="test")
    log.latch("found from outside")
    assert log.check().reason == "found from outside"
    log.recover()
    assert log.is_ready
    log.close()
    assert verify(home).is_green
