"""Reviews: on the record, due again after so many days."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import config, db
from appliance.alone import open_log_alone
from appliance.config import Home
from appliance.core import Caller, Principal, Role
from appliance.errors import RequestError
from appliance.reviewing import Reviewing
from tests.clocks import ManualClock
from tests.homes import make_home

ADA = Principal("p_ada", "Ada Kim", Role.AUDITOR)
HERE = Caller("127.0.0.1")
DAY = 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_900_000_000_000_000)


@pytest.fixture
def reviewing(tmp_path: Path, clock: ManualClock) -> Iterator[Reviewing]:
    home: Home = make_home(tmp_path / "home")
    with open_log_alone(home, config.load(home), clock) as alone:
        yield Reviewing(audit=alone.audit, database=db.at(home.database), clock=clock, review_days=7)


async def test_a_review_is_due_at_first_and_again_after_a_week(
    reviewing: Reviewing, clock: ManualClock
) -> None:
    """The newest counts; what it reached is where the next one begins."""
    assert (await reviewing.reviews()).is_due
    await reviewing.record(ADA, HERE, begin=0, end=2, note="quiet", filters={})
    clock.advance(6 * DAY)
    found = await reviewing.reviews()
    assert (found.is_due, found.reviewed_to, len(found.records)) == (False, 2, 1)
    clock.advance(2 * DAY)
    assert (await reviewing.reviews()).is_due


async def test_the_note_is_sealed(reviewing: Reviewing) -> None:
    """The header says from where to where, and nothing else."""
    await reviewing.record(ADA, HERE, begin=0, end=2, note="Maria Okafor", filters={"user": "Maria Okafor"})
    (record,) = (await reviewing.reviews()).records

    assert record.public == {"begin": 0, "end": 2}
    assert record.header.ct is not None


@pytest.mark.parametrize(("begin", "end"), [(2, 2), (3, 2), (-1, 2), (0, 10_000)])
async def test_a_span_that_is_none_is_refused(reviewing: Reviewing, begin: int, end: int) -> None:
    """Only what is on the record can have been looked through."""
    with pytest.raises(RequestError):
        await reviewing.record(ADA, HERE, begin=begin, end=end, note="", filters={})


async def test_a_note_has_an_end(reviewing: Reviewing) -> None:
    """Two thousand characters."""
    with pytest.raises(RequestError):
        await reviewing.record(ADA, HERE, begin=0, end=1, note="x" * 2001, filters={})
