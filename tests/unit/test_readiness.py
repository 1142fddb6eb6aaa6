"""The words of `/readyz` and doctor: each fault has its own code, and each code stands in the guides."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance import config, readiness
from appliance.alone import open_log_alone
from appliance.audit.log import AuditLog
from appliance.audit.pulse import ClockWatch, Steps
from appliance.audit.space import Level, Room
from appliance.catalog import AliasOf, Catalog
from appliance.config import Home
from appliance.engine import devices, fits
from appliance.engine.messages import Ready, Setup, Tuning
from appliance.engine.status import EngineStatus, State
from appliance.errors import SetupError
from appliance.readiness import Trouble
from appliance.verification import Last
from appliance.witnessing import Visits
from tests.clocks import ManualClock

GUIDE = Path(__file__).parents[2] / "deploy" / "guides" / "operators.md"
HOUR_US = 3_600_000_000


def status(state: State, error: str = "", code: str = "") -> EngineStatus:
    return EngineStatus(state, None, 0, error, None, code)


def on_processor() -> Ready:
    """Of a worker whose GPU does not answer."""
    setup = Setup(512, 32, 1, flash_attn=False)
    tuning = Tuning(flash_attn=False, n_threads=1, n_threads_batch=1)
    sizes = (512, 512, 512, 1, 3, 0, "", "CPU", "", "", 1)
    return Ready(
        *sizes,
        can_share_prefixes=True,
        cell_bytes=1,
        tuning=tuning,
        setup=setup,
        fallback=devices.NO_DEVICE,
        fallback_says="it finds no GPU",
    )


def bereft() -> Catalog:
    """It knows an alias of a model that it does not have."""
    catalog = Catalog([])
    catalog.learn([], [AliasOf("lobby", "gone", "0" * 64)])
    return catalog


def codes(*found: Trouble | None) -> set[str]:
    return {each.code for each in found if each is not None}


EVERY = codes(
    readiness.closed_log("OperationalError SQLITE_BUSY"),
    readiness.closed_log("a commit took longer than audit.commit_timeout_seconds"),
    readiness.closed_log("OSError ENOSPC"),
    readiness.closed_log("verify is red, 1 findings: entry 3"),
    readiness.closed_log("the latch file is missing or damaged"),
    *readiness.disk(Room(1 << 20, 0.99, Level.LOW, has_ballast=False)),
    *readiness.disk(Room(1 << 30, 0.8, Level.WARNING)),
    readiness.worker(status(State.STARTING)),
    readiness.worker(status(State.FAILED, "no such tensor", "load_failed")),
    readiness.worker(status(State.FAILED, "OSError", "supervisor_failed")),
    readiness.worker(status(State.FAILED, "the worker exited with 1", "worker_died")),
    readiness.worker(status(State.FAILED, "the worker has not answered", "worker_hung")),
    readiness.worker(status(State.FAILED, "its sandbox ended it", "worker_misbehaved")),
    readiness.worker(status(State.FAILED, "no other is started", "worker_given_up")),
    *(readiness.worker(status(State.FAILED, "no GPU", code)) for code in devices.HINTS),
    readiness.worker(status(State.FAILED, "not this one", "cpu_variant")),
    readiness.worker(status(State.FAILED, "it needs more", fits.DOES_NOT_FIT)),
    *readiness.lost(bereft()),
    readiness.computing(EngineStatus(State.READY, on_processor(), 0, "", None)),
    readiness.certificate("over", "2026-11-22", ""),
    readiness.certificate("not_taken", "2026-11-22", "it is not the key's"),
    readiness.certificate("renew", "2026-11-22", ""),
    readiness.clock(Steps(5_000_000, 5_000_000, 1), 2),
    readiness.witnesses(Visits(1, 0, 0, is_stale=True)),
    readiness.STOPPING,
)


def test_every_trouble_has_a_code_of_its_own_that_the_guide_explains() -> None:
    """The table of the operators' guide has exactly these, and says of each whether it stops."""
    table = GUIDE.read_text(encoding="utf-8").partition("<!-- troubles -->")[2].partition("<!-- /")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)

    assert sorted(rows) == sorted(EVERY)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("OperationalError SQLITE_BUSY", "database_locked"),
        ("OperationalError SQLITE_FULL", "disk_full"),
        ("OSError ENOSPC", "disk_full"),
        ("OSError EIO", "log_closed"),
        ("a commit took longer than audit.commit_timeout_seconds", "disk_blocked"),
        ("the disk does not tell of the log's files", "disk_blocked"),
        ("verify is red, 2 findings: entry 7", "record_red"),
        ("the latch file is missing or damaged", "log_closed"),
    ],
)
def test_a_closed_log_says_why(reason: str, code: str) -> None:
    """The reason as the latch kept it stands in the words; every one of them needs an operator."""
    found = readiness.closed_log(reason)

    assert (found.code, found.stops) == (code, True)
    assert reason in found.says
    assert "appliance audit recover" in found.hint


def test_a_ready_worker_and_a_wide_disk_are_no_trouble() -> None:
    """What is well is not told."""
    assert readiness.worker(status(State.READY)) is None
    assert readiness.disk(Room(1 << 40, 0.1)) == []
    assert readiness.certificate("valid", "2026-11-22", "") is None
    assert readiness.clock(Steps(), 0) is None
    assert readiness.record(Last(is_green=True, size=1, ts=1), is_ready=True) is None
    assert readiness.record(None, is_ready=True) is None
    assert readiness.witnesses(Visits(0, 0, 0, is_stale=False)) is None


def test_a_worker_that_starts_again_still_says_what_became_of_the_last_one() -> None:
    """While it loads, its reader wants to know why there was nobody."""
    found = readiness.worker(status(State.STARTING, "the worker was ended by signal 9\nwords", "worker_died"))

    assert found is not None
    assert (found.code, found.says) == ("worker_died", "the worker was ended by signal 9")


def test_a_red_record_that_was_opened_again_is_told_and_does_not_stop() -> None:
    """An operator has looked; closed by it, the log says so itself."""
    red = Last(is_green=False, size=1, ts=1)
    found = readiness.record(red, is_ready=True)

    assert found is not None
    assert (found.code, found.stops) == ("record_red", False)
    assert readiness.record(red, is_ready=False) is None


def test_a_step_of_the_clock_is_told_for_an_hour_and_a_large_one_to_the_end() -> None:
    """Forwards and back again is only a step; an hour away from where it was is a doubt."""
    small = Steps(30_000_000, 30_000_000, 1_000_000)
    assert readiness.clock(small, HOUR_US) is not None
    assert readiness.clock(small, 2 * HOUR_US) is None
    large = Steps(2 * HOUR_US, 2 * HOUR_US, 1_000_000)
    found = readiness.clock(large, 1000 * HOUR_US)
    assert found is not None
    assert "removed by its age" in found.says
    assert not found.stops


def test_steps_are_summed_up() -> None:
    """A day forwards and a day back leaves no doubt."""
    watch = ClockWatch(3600)
    watch.look(1_000_000, 0, written_us=0)
    watch.look(24 * HOUR_US, 1_000_000, written_us=1_000_000)
    assert watch.steps.are_doubtful
    watch.look(3_000_000, 2_000_000, written_us=2_000_000)

    assert not watch.steps.are_doubtful
    assert watch.steps.at_us == 2_000_000


async def test_nothing_is_removed_by_a_clock_that_was_set(home: Home, clock: ManualClock) -> None:
    """A clock that is years ahead would end every period at once, and for good."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.custody.keep_periods()
        audit: AuditLog = alone.audit
        audit.times.steps = Steps(400 * 24 * HOUR_US, 400 * 24 * HOUR_US, 1)

        with pytest.raises(SetupError) as refused:
            await alone.custody.keep_periods()

    assert refused.value.code == "clock_stepped"
