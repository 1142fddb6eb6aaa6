"""Heartbeats, gaps, and a wall clock that is set forward and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import config, db
from appliance.audit import query
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.pulse import ClockWatch
from appliance.audit.sequencer import Sequencer, Start
from appliance.config import Home
from tests.clocks import ManualClock
from tests.harness import wait_until
from tests.homes import make_home
from tests.records import assert_verified, findings
from tests.unit.audit.test_log import kinds, open_log, opening

HOUR_US = 3_600_000_000
FUTURE_US = 1_900_000_000_000_000  # behind whatever the real clock told `init`


@pytest.fixture
def later() -> ManualClock:
    """A clock that does not stand before the home's first entry."""
    return ManualClock(FUTURE_US)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chores every few milliseconds of real time."""
    monkeypatch.setattr("appliance.audit.log.CHORES_SECONDS", 0.005)


@pytest.mark.usefixtures("quick")
def test_idle_log_has_a_heartbeat(home: Home, later: ManualClock) -> None:
    """One entry in each `heartbeat_seconds` in which nothing else was written, in the head file too."""
    log = open_log(home, later)
    for number in range(1, 4):
        later.advance(3600)
        wait_until(lambda number=number: kinds(home).count(Kind.LOG_HEARTBEAT) == number)
    later.advance(1800)
    log.append_sync(Entry(kind=Kind.LOG_ALARM, public={"code": "test"}))
    later.advance(1801)
    wait_until(lambda: f"\n{log.tree_size}\n" in home.head.read_text())
    log.close()

    assert kinds(home).count(Kind.LOG_HEARTBEAT) == 3
    assert_verified(home)


def test_log_whose_heartbeats_are_missing_is_red(home: Home, later: ManualClock) -> None:
    """What begins with a promise and is silent for longer was cut, or its writer was stopped."""
    sequencer = Sequencer(home, db.at(home.database), config.load(home).audit, later)
    sequencer.open(Start(Kind.LOG_STARTED, {"heartbeat_seconds": 3600}))
    note = Entry(kind=Kind.LOG_ALARM, public={"code": "test"})
    later.advance(3600 + 59)
    sequencer.commit([note])
    later.advance(3600 + 61)
    sequencer.commit([note])
    sequencer.write_head()
    sequencer.close()

    assert findings(home) == [
        "entry 3: the log was silent for 3661 s before it: heartbeats are missing (log_entry)"
    ]


def test_log_admits_its_own_silence(home: Home, later: ManualClock) -> None:
    """A process that was stopped for hours says so before anything else, and stays green."""
    log = open_log(home, later)
    later.advance(3 * 3600)
    log.append_sync(Entry(kind=Kind.DATABASE_UPGRADED))
    log.close()
    (admitted,) = query.search(home.database, kind=Kind.LOG_ALARM)

    assert admitted.public == {"code": "silent"}
    assert kinds(home)[admitted.seq + 1] is Kind.DATABASE_UPGRADED
    assert_verified(home)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("step_us", [HOUR_US, -HOUR_US, 2_000_001, -2_000_001])
@pytest.mark.parametrize("idle", [True, False])
def test_step_of_the_clock_is_on_the_record(
    home: Home,
    later: ManualClock,
    step_us: int,
    idle: bool,  # noqa: FBT001
) -> None:
    """Forward or back, idle or not, with what the clock should have told and what it told."""
    log = open_log(home, later)
    log.append_sync(Entry(kind=Kind.LOG_ALARM, public={"code": "before"}))
    later.wall_us += step_us
    if idle:
        wait_until(lambda: Kind.CLOCK_STEPPED in kinds(home))
    else:
        log.append_sync(Entry(kind=Kind.LOG_ALARM, public={"code": "behind"}))
    log.close()
    (stepped,) = query.search(home.database, kind=Kind.CLOCK_STEPPED)

    assert stepped.public == {"expected_us": FUTURE_US, "found_us": FUTURE_US + step_us}
    assert_verified(home)


def test_clock_that_was_set_back_between_two_starts_is_noticed(home: Home, later: ManualClock) -> None:
    """The record's own last time is the witness."""
    open_log(home, later).close()
    later.wall_us -= HOUR_US
    open_log(home, later).close()
    (stepped,) = query.search(home.database, kind=Kind.CLOCK_STEPPED)

    assert int(stepped.public["expected_us"]) - int(stepped.public["found_us"]) >= HOUR_US
    assert_verified(home)


def test_slewed_clock_is_no_step() -> None:
    """A time daemon that corrects by 500 ppm is not told of, however long it takes."""
    watch = ClockWatch(3600)
    steps = [watch.look(n * 1_000_500, n * 1_000_000, written_us=n * 1_000_000) for n in range(100_000)]

    assert not any(steps)


def test_start_tells_what_the_log_stands_on(tmp_path: Path, clock: ManualClock) -> None:
    """Versions of what seals and stores, the file system, the time source, the promised heartbeat."""
    home = make_home(tmp_path / "home", toml='[audit]\norigin = "test/audit/1"\nheartbeat_seconds = 60\n')
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    log.close()
    (started,) = query.search(home.database, kind=Kind.LOG_STARTED)

    assert started.public["heartbeat_seconds"] == 60
    assert {"version", "database", "cryptography", "openssl", "filesystem", "schema"} <= started.public.keys()
    assert started.public["time_source"] in {"synchronised", "unsynchronised", "unknown"}
