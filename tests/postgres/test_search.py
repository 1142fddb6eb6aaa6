"""Searching a record on a server: the same filters find the same entries, along the same indexes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.audit import blind, search
from appliance.audit.timeline import timeline
from appliance.config import Home
from tests.records import place
from tests.searched import FILTERS, blinds_of, expected, found, some_of, write
from tests.servers import Server, make_server_home
from tests.verifying import verify


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, server: Server) -> tuple[Home, list[blind.IndexKey]]:
    """A record of two months, and both months' index keys."""
    home = make_server_home(tmp_path_factory.mktemp("search") / "home", server, server.new_database())
    return home, write(home)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(everything=FILTERS, keep=st.integers(0, (1 << 13) - 1), few=st.sampled_from([0, 10_000]))
def test_every_combination_finds_what_reading_everything_finds(
    written: tuple[Home, list[blind.IndexKey]], everything: dict[str, Any], keep: int, few: int
) -> None:
    """Whichever way is walked, in both orders; the timeline counts as many."""
    home, keys = written
    filters = some_of(everything, keep)
    blinds = blinds_of(keys, filters)
    wanted = expected(home, filters, blinds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FEW", few)

        assert found(home, filters, blinds, limit=20) == wanted
        assert found(home, filters, blinds, limit=20, oldest_first=True) == wanted[::-1]
    counted = timeline(place(home), filters, blinds, buckets=3, budget_us=60_000_000)
    assert counted.complete
    if filters.kinds:
        assert sum(counted.total.values()) == len(wanted)


def test_record_with_every_column_verifies(written: tuple[Home, list[blind.IndexKey]]) -> None:
    """Each new column says what the header says."""
    assert verify(written[0]).findings == []
