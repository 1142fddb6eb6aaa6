"""Searching the record: by blind indexes of several months, along indexes, and through contents."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from appliance import config
from appliance.audit import blind, query, shares
from appliance.audit.entry import Entry, Kind
from appliance.audit.recipients import Identity, parse_identity
from appliance.cli.init import DEV_IDENTITY
from appliance.config import Home
from appliance.errors import VerificationError
from appliance.services import open_log_alone
from tests.clocks import ManualClock
from tests.homes import make_home

MONTH_SECONDS = 32 * 86_400


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dict[str, list[bytes]]]:
    """Entries of two keys and a user over three months, and the blind indexes that they have."""
    home = make_home(tmp_path_factory.mktemp("query") / "home")
    clock = ManualClock(2_000_000_000_000_000)
    blinded: dict[str, list[bytes]] = {"one": [], "two": [], "person": []}
    with open_log_alone(home, config.load(home), clock) as alone:
        for month in range(3):
            for number in range(8):
                actor = "one" if number % 2 else "two"
                alone.audit.append_sync(
                    Entry(
                        kind=Kind.AUDIT_SEARCHED,
                        content={"text": f"{actor} {month} {number}"},
                        actor=actor,
                        user="person" if number == 7 else None,
                        subject=f"key:{actor}",
                    )
                )
            key = blind.key_of(home, blind.month_of(clock.now_us()))
            for name, values in blinded.items():
                values.append(key.blind("user" if name == "person" else "key", name))
            clock.advance(MONTH_SECONDS)
    return home, blinded


def everything(home: Home) -> list[query.Record]:
    return query.search(home.database, limit=1000)


def auditor(home: Home) -> Identity:
    return parse_identity((home.keys / DEV_IDENTITY).read_text())


def test_one_actor_has_an_index_for_each_month(written: tuple[Home, dict[str, list[bytes]]]) -> None:
    """All months together, newest first; one month alone; keys and users alike; nobody finds nobody."""
    home, blinded = written
    found = query.search(home.database, actors=blinded["one"])

    assert len(found) == 12
    assert [each.seq for each in found] == sorted((each.seq for each in found), reverse=True)
    assert len(query.search(home.database, actors=blinded["one"][:1])) == 4
    assert len(query.search(home.database, actors=blinded["one"], limit=5)) == 5
    assert len(query.search(home.database, actors=blinded["person"])) == 3
    assert query.search(home.database, actors=[]) == []
    assert query.search(home.database, actors=[bytes(16)]) == []


def test_filters_narrow_and_pages_follow(written: tuple[Home, dict[str, list[bytes]]]) -> None:
    """Pages by number cover everything once, with every filter."""
    home, blinded = written
    for filters in ({}, {"kind": Kind.AUDIT_SEARCHED}, {"actors": blinded["two"]}):
        seqs: list[int] = []
        while page := query.search(home.database, before_seq=seqs[-1] if seqs else None, limit=3, **filters):
            seqs += [each.seq for each in page]
        assert seqs == [each.seq for each in query.search(home.database, limit=1000, **filters)]
    middle = query.search(home.database, actors=blinded["one"])[6].ts
    assert len(query.search(home.database, actors=blinded["one"], since_us=middle)) == 7
    assert len(query.search(home.database, actors=blinded["one"], until_us=middle)) == 5
    assert query.search(home.database, before_seq=0) == []


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


FILTERS: dict[str, dict[str, Any]] = {
    "newest": {},
    "time": {"since_us": 1, "until_us": 2},
    "kind": {"kind": Kind.AUDIT_SEARCHED},
    "kind and time": {"kind": Kind.AUDIT_SEARCHED, "since_us": 1, "until_us": 2},
    "actor": {"actors": [bytes(16)]},
    "actor and time": {"actors": [bytes(16)], "since_us": 1, "until_us": 2},
    "actor and kind": {"actors": [bytes(16)], "kind": Kind.AUDIT_SEARCHED},
    "next page": {"actors": [bytes(16)], "before_seq": 9},
    "model": {"model": "m"},
    "outcome": {"outcome": "failed"},
}


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_walks_along_an_index(written: tuple[Home, dict[str, list[bytes]]], name: str) -> None:
    """No filter reads the whole table, and none sorts: the newest come first as the index has them."""
    home, _ = written
    with watched() as statements:
        query.search(home.database, **FILTERS[name])

    assert statements
    for sql, params in statements:
        steps = plan(home.database, sql, params)
        assert any("USING INDEX" in step or "USING COVERING INDEX" in step for step in steps), steps
        assert not any("TEMP B-TREE" in step for step in steps), steps
        if "actors" in FILTERS[name]:
            assert any("ix_log_entry_bi_" in step and "SEARCH" in step for step in steps), steps


def test_contents_are_scanned_in_pages(
    written: tuple[Home, dict[str, list[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the pages, each content comes once, in order, as reading it alone gives it."""
    home, _ = written
    released = {each.hex(): secret for each, secret in shares.release(home, shares.ids(home)).items()}
    records = [each for each in everything(home)[::-1] if each.header.ct is not None]
    alone = query.open_records(home.database, records, [auditor(home)], released)
    for page in (1, 3, 1000):
        monkeypatch.setattr(query, "_PAGE", page)
        found = list(query.scan(home.database, [auditor(home)], released))
        assert [(each.record, each.content) for each in found] == [
            (each.record, each.content) for each in alone
        ]
    some = list(
        query.scan(
            home.database, [auditor(home)], released, kind=Kind.AUDIT_SEARCHED, after_seq=records[5].seq
        )
    )
    assert [each.content for each in some] == [
        each.content for each in alone[6:] if each.record.kind is Kind.AUDIT_SEARCHED
    ]


def test_a_scan_leaves_out_what_it_has_no_share_for(written: tuple[Home, dict[str, list[bytes]]]) -> None:
    """Only what was released is opened."""
    home, _ = written
    released = {each.hex(): secret for each, secret in shares.release(home, shares.ids(home)).items()}
    (share,) = {each.header.subj for each in everything(home) if each.header.seq == everything(home)[5].seq}
    one = {name: secret for name, secret in released.items() if name == share}

    found = list(query.scan(home.database, [auditor(home)], one))

    assert {each.record.header.subj for each in found} == set(one)


def test_a_scan_stops_at_a_content_that_does_not_open(
    written: tuple[Home, dict[str, list[bytes]]], tmp_path: Path
) -> None:
    """A stranger's identity opens nothing, and that is an error and no empty answer."""
    home, _ = written
    released = {each.hex(): secret for each, secret in shares.release(home, shares.ids(home)).items()}

    with pytest.raises(VerificationError):
        next(query.scan(home.database, [Identity.generate("stranger")], released))
