"""A copy because somebody asked: one at a time, on the record with who it was, and told how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import config, copies, db
from appliance.alone import Alone, open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.space import Room
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.copies import Copies
from appliance.core import Principal, Role
from appliance.errors import RequestError, SetupError, Unavailable
from tests.homes import make_home
from tests.records import assert_verified

ADA = Principal("p_ada", "Ada Kim", Role.OPERATOR)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def alone(home: Home) -> Iterator[Alone]:
    with open_log_alone(home, config.load(home)) as opened:
        yield opened


@pytest.fixture
def made(home: Home, alone: Alone) -> Copies:
    return Copies(
        home=home,
        database=db.of(home, config.load(home)),
        audit=alone.audit,
        custody=alone.custody,
        clock=SystemClock(),
    )


async def test_copy_is_made_recorded_and_told(home: Home, made: Copies) -> None:
    """Both files are there, both entries, and the state names the file."""
    made.start(ADA)
    assert made.state.is_running
    await made.stop()

    assert not made.state.is_running
    assert made.state.problem == ""
    assert (home.backups / made.state.name).is_file()
    recorded = query.search(home.database, kind=Kind.DATABASE_BACKED_UP)
    assert [each.public["backup_sha256"] for each in recorded] == [
        db.digest_of(home.backups / made.state.name)
    ]
    assert len(query.search(home.database, kind=Kind.SHARES_BACKED_UP)) == 1
    assert_verified(home)


async def test_second_waits_for_the_first(made: Copies) -> None:
    """Two clicks are one copy; behind it another may begin."""
    made.start(ADA)
    with pytest.raises(RequestError, match="already"):
        made.start(ADA)
    await made.stop()
    made.start(ADA)
    await made.stop()

    assert made.state.problem == ""


async def test_no_copy_without_room_or_without_a_record(
    home: Home, alone: Alone, made: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk and a closed log are told before anything is written."""
    with monkeypatch.context() as patch:
        patch.setattr(type(alone.audit), "room", property(lambda _self: Room(free_bytes=1)))
        with pytest.raises(Unavailable, match="no room"):
            made.start(ADA)
    await asyncio.to_thread(alone.audit.latch, "a test")
    with pytest.raises(Unavailable, match="closed"):
        made.start(ADA)

    assert list(home.backups.glob("*")) == []
    assert made.state.began_us is None


@pytest.mark.parametrize("error", [SetupError("the copy failed: a test", code="backup_failed"), OSError("x")])
async def test_copy_that_fails_is_told(
    home: Home, made: Copies, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Its problem stands on the page, nothing on the record, and the next one may begin."""

    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(copies, "copy_database", fail)
    made.start(ADA)
    await made.stop()

    assert "failed" in made.state.problem
    assert not made.state.is_running
    assert query.search(home.database, kind=Kind.DATABASE_BACKED_UP) == []
