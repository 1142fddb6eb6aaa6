"""Searching the record: every filter and combination against what reading all headers gives."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import blind, query, search, walks
from appliance.audit.entry import Entry
from appliance.audit.kinds import PUBLIC_FIELDS, Kind
from appliance.audit.search import Filters
from appliance.audit.timeline import timeline
from appliance.config import Home
from appliance.errors import RequestError
from tests.clocks import ManualClock
from tests.homes import make_home
from tests.searched import ADDRESSES, FILTERS, blinds_of, expected, found, some_of, write


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[blind.IndexKey]]:
    """A record of two months, and both months' index keys."""
    home = make_home(tmp_path_factory.mktemp("search") / "home")
    return home, write(home)


@settings(max_examples=150, deadline=None)
@given(everything=FILTERS, keep=st.integers(0, (1 << 13) - 1), few=st.sampled_from([0, 10_000]))
def test_every_combination_finds_what_reading_everything_finds(
    written: tuple[Home, list[blind.IndexKey]], everything: dict[str, Any], keep: int, few: int
) -> None:
    """Whichever way is walked, in one page or many, in both orders."""
    home, keys = written
    filters = some_of(everything, keep)
    blinds = blinds_of(keys, filters)
    wanted = expected(home, filters, blinds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FEW", few)

        assert found(home, filters, blinds) == wanted
        assert found(home, filters, blinds, limit=3) == wanted
        assert found(home, filters, blinds, limit=3, oldest_first=True) == wanted[::-1]


@settings(max_examples=60, deadline=None)
@given(everything=FILTERS, keep=st.integers(0, (1 << 13) - 1))
def test_without_time_the_cursor_goes_on_and_nothing_is_lost(
    written: tuple[Home, list[blind.IndexKey]], everything: dict[str, Any], keep: int
) -> None:
    """A search that may only look at a few entries says how far it came, and ends with the same entries."""
    home, keys = written
    filters = some_of(everything, keep)
    blinds = blinds_of(keys, filters)
    seqs: list[int] = []
    cursor = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "FIRST_PIECE", 8)
        patch.setattr(walks, "MAX_PIECE", 8)
        patch.setattr(search, "FEW", 0)
        for _ in range(1000):
            page = search.search(home.database, filters, blinds, cursor=cursor, limit=5, budget_us=0)
            seqs += [each.seq for each in page.records]
            if page.searched_to_us is not None:
                assert len(page.records) < 5
                assert page.next_cursor is not None
            cursor = page.next_cursor
            if cursor is None:
                break

    assert seqs == expected(home, filters, blinds)


@settings(max_examples=60, deadline=None)
@given(everything=FILTERS, keep=st.integers(0, (1 << 13) - 1), few=st.sampled_from([0, 10_000]))
def test_timeline_counts_what_the_search_finds(
    written: tuple[Home, list[blind.IndexKey]], everything: dict[str, Any], keep: int, few: int
) -> None:
    """Each entry in its part of the time; openings and segments only where they are asked for."""
    home, keys = written
    filters = some_of(everything, keep)
    blinds = blinds_of(keys, filters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("appliance.audit.timeline.FEW", few)
        counted = timeline(home.database, filters, blinds, buckets=7, budget_us=60_000_000)
    kinds = filters.kinds or tuple(set(Kind) - {Kind.REQUEST_OPENED, Kind.REQUEST_SEGMENT})
    asked = Filters(**{each.name: getattr(filters, each.name) for each in fields(filters)} | {"kinds": kinds})
    records = {each.seq: each for each in query.search(home.database, limit=100_000)}
    wanted: list[dict[str, int]] = [{} for _ in range(7)]
    for seq in expected(home, asked, blinds):
        each = records[seq]
        name = str(each.public["outcome"]) if each.kind is Kind.REQUEST_CLOSED else str(each.kind)
        into = wanted[(each.ts - counted.begin_us) // counted.bucket_us]
        into[name] = into.get(name, 0) + 1

    assert counted.complete
    assert list(counted.counts) == wanted


def test_timeline_says_what_it_has_not_counted(written: tuple[Home, list[blind.IndexKey]]) -> None:
    """Without time nothing is counted, and that is said."""
    home, _ = written
    counted = timeline(home.database, Filters(), budget_us=0)

    assert not counted.complete
    assert counted.total == {}
    assert counted.counted_from_us >= counted.end_us - 1


@pytest.mark.parametrize("oldest_first", [False, True])
def test_pages_have_no_gap_and_no_duplicate_while_the_record_grows(
    tmp_path: Path, *, oldest_first: bool
) -> None:
    """Entries that come between two pages are behind them, or come last."""
    home = make_home(tmp_path / "home")
    seqs: list[int] = []
    cursor = None
    with open_log_alone(home, config.load(home), ManualClock()) as alone:

        def grow(number: int) -> list[int]:
            some = [Entry(kind=Kind.AUDIT_SEARCHED, actor="a") for _ in range(number)]
            return [alone.audit.append_sync(each).seq for each in some]

        before = grow(10)
        later: list[int] = []
        while len(seqs) < 100:
            page = search.search(
                home.database,
                Filters(kinds=(Kind.AUDIT_SEARCHED,)),
                cursor=cursor,
                limit=3,
                oldest_first=oldest_first,
            )
            seqs += [each.seq for each in page.records]
            cursor = page.next_cursor
            if cursor is None:
                break
            later += grow(2)

    assert seqs == ([*before, *later] if oldest_first else before[::-1])


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "MW4x=",
        "MW4wMQ",
        "Mm4x",
        "MXgx",
        "MW8x",
        "MW4",
        "MW4tMQ",
        "a" * 500,
        "MW4x\n",
        "ÿ",
        "MW4x MW4x",
    ],
)
def test_a_cursor_that_no_page_gave_is_refused(
    written: tuple[Home, list[blind.IndexKey]], cursor: str
) -> None:
    """Another version, another order, another alphabet, a sign, a leading zero, nothing."""
    with pytest.raises(RequestError) as refused:
        search.search(written[0].database, Filters(), cursor=cursor)

    assert refused.value.code == "invalid_cursor"


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"user": "x" * 513},
        {"codes": ("",)},
        {"models": ("m",) * 101},
        {"min_prompt_tokens": -1},
        {"since_us": 1 << 53},
        {"since_us": 2, "until_us": 1},
        {"min_completion_tokens": 3, "max_completion_tokens": 2},
    ],
    ids=str,
)
def test_filters_that_can_find_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """Named, and without the value."""
    with pytest.raises(RequestError) as refused:
        Filters(**wrong)

    assert refused.value.code == "invalid_search"
    assert refused.value.param in wrong


def test_names_do_not_show_in_a_repr() -> None:
    """Whom one looked for goes into no traceback."""
    assert "citizen" not in repr(Filters(key="citizen", user="citizen", session="citizen", address="citizen"))


@contextlib.contextmanager
def watched() -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is run inside."""
    seen: list[tuple[str, Any]] = []

    def remember(_connection: Any, _cursor: Any, sql: str, params: Any, *_: Any) -> None:
        seen.append((sql, params))

    event.listen(Engine, "before_cursor_execute", remember)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", remember)


def plan(path: Path, sql: str, params: Any) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", params)]


# filters → the index that the walk must go along
PLANS: dict[str, tuple[dict[str, Any], str]] = {
    "newest": ({}, "sqlite_autoindex_log_entry_1"),
    "time": ({"since_us": 1, "until_us": 1 << 52}, "sqlite_autoindex_log_entry_1"),
    "kind": ({"kinds": (Kind.AUDIT_SEARCHED,)}, "ix_log_entry_facets"),
    "outcome": ({"outcomes": ("failed",)}, "ix_log_entry_facets"),
    "model": ({"models": ("m",)}, "ix_log_entry_facets"),
    "code": ({"codes": ("not_found",)}, "ix_log_entry_facets"),
    "tokens": ({"min_prompt_tokens": 1}, "ix_log_entry_facets"),
    "request": ({"request_id": "req_0_7"}, "ix_log_entry_req"),
    "key": ({"key": "one"}, "ix_log_entry_bi_key"),
    "user": ({"user": "ann"}, "ix_log_entry_bi_user"),
    "session": ({"session": "s0"}, "ix_log_entry_bi_session"),
    "address": ({"address": ADDRESSES[0]}, "ix_log_entry_bi_addr"),
    "key and kind": ({"key": "one", "kinds": (Kind.REQUEST_REFUSED,)}, "ix_log_entry_bi_key"),
    "key and outcome": ({"key": "one", "outcomes": ("failed",)}, "ix_log_entry_bi_key"),
}


@pytest.mark.parametrize("few", [0, 10_000])
@pytest.mark.parametrize("name", PLANS)
def test_every_filter_walks_along_its_index(
    written: tuple[Home, list[blind.IndexKey]], monkeypatch: pytest.MonkeyPatch, name: str, few: int
) -> None:
    """No statement reads the whole table or sorts it; facets are answered by their index alone."""
    home, keys = written
    given_filters, index = PLANS[name]
    filters = Filters(**given_filters)
    monkeypatch.setattr(search, "FEW", few)
    with watched() as statements:
        search.search(home.database, filters, blinds_of(keys, filters))

    assert any(index in step for sql, params in statements for step in plan(home.database, sql, params))
    for sql, params in statements:
        steps = plan(home.database, sql, params)
        # What a bounded piece has found may be sorted; nothing else is.
        assert "FROM (SELECT" in sql or not any("TEMP B-TREE" in step for step in steps), (sql, steps)
        assert not any(step.startswith("SCAN log_entry") and "INDEX" not in step for step in steps), steps
        for step in steps:
            if "ix_log_entry_facets" in step:
                assert "USING COVERING INDEX" in step, (sql, steps)


def test_kinds_follow_from_what_is_asked() -> None:
    """What no header of a kind can say is not looked for there."""
    assert search.kinds_of(Filters(outcomes=("stop",))) == {Kind.REQUEST_CLOSED}
    assert search.kinds_of(Filters(models=("m",), kinds=(Kind.LOG_ALARM,))) == frozenset()
    for kind in search.kinds_of(Filters(codes=("x",))):
        assert "code" in PUBLIC_FIELDS[kind]
