"""Saved searches: rows of their account, each on the record, and verify holds them against it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import config, db
from appliance.accounts.saved import MAX_OF_ONE_ACCOUNT
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import Principal, Role
from appliance.errors import RequestError
from appliance.searches import Searches
from tests.homes import make_home
from tests.records import findings

ADA = Principal("p_ada", "Ada Kim", Role.AUDITOR)
BO = Principal("p_bo", "Bo Lind", Role.AUDITOR)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def searches(home: Home) -> Iterator[Searches]:
    with open_log_alone(home, config.load(home)) as alone:
        yield Searches(audit=alone.audit, database=db.at(home.database), clock=SystemClock())


async def test_each_account_has_its_own(searches: Searches, home: Home) -> None:
    """Saved and removed by its owner alone; each is an entry, and the record is whole."""
    made = await searches.save(ADA, " failures ", '{"outcomes": ["failed"]}')
    assert [each.name for each in await searches.of(ADA)] == ["failures"]
    assert await searches.of(BO) == []
    with pytest.raises(RequestError):
        await searches.remove(BO, made.id)
    with pytest.raises(RequestError):
        await searches.find(BO, made.id)
    await searches.remove(ADA, made.id)

    assert await searches.of(ADA) == []
    kinds = [each.kind for each in query.search(home.database, limit=2)]
    assert kinds == [Kind.SEARCH_REMOVED, Kind.SEARCH_SAVED]


async def test_a_name_is_taken_once(searches: Searches) -> None:
    """Saving under a name again replaces what it stood for."""
    await searches.save(ADA, "mine", '{"look": "refusals"}')
    await searches.save(ADA, "mine", '{"look": "people"}')

    assert [each.filters for each in await searches.of(ADA)] == ['{"look": "people"}']


@pytest.mark.parametrize("name", ["", "   ", "x" * 65, "a\nb", "a\u202eb", "\x1b[31m"])
async def test_a_name_that_could_steer_a_page_is_refused(searches: Searches, name: str) -> None:
    """One to 64 printable characters."""
    with pytest.raises(RequestError):
        await searches.save(ADA, name, "{}")


async def test_there_is_an_end_to_it(searches: Searches) -> None:
    """So many for one account, and only so long."""
    for number in range(MAX_OF_ONE_ACCOUNT):
        await searches.save(ADA, f"search {number}", "{}")
    with pytest.raises(RequestError) as refused:
        await searches.save(ADA, "one more", "{}")
    with pytest.raises(RequestError):
        await searches.save(BO, "long", "x" * 4001)
    await searches.save(ADA, "search 0", '{"look": "people"}')

    assert refused.value.code == "too_many"


async def test_a_row_that_somebody_changed_is_found(home: Home) -> None:
    """What an auditor looks for can not be bent in the database."""
    with open_log_alone(home, config.load(home)) as alone:
        kept = Searches(audit=alone.audit, database=db.at(home.database), clock=SystemClock())
        await kept.save(ADA, "failures", '{"outcomes": ["failed"]}')
    assert findings(home) == []
    with sqlite3.connect(home.database) as connection:
        connection.execute("UPDATE saved_search SET filters = '{}'")
    connection.close()

    assert ["saved_search" in each for each in findings(home)] == [True]
