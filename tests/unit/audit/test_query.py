"""Reading the record: the newest entries, and what lies in their contents."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import query, shares
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity, parse_identity
from appliance.cli.init import DEV_IDENTITY
from appliance.config import Home
from appliance.errors import VerificationError
from tests.clocks import ManualClock
from tests.homes import make_home

MONTH_SECONDS = 32 * 86_400


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Entries of two keys and a user over three months."""
    home = make_home(tmp_path_factory.mktemp("query") / "home")
    clock = ManualClock(2_000_000_000_000_000)
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
            clock.advance(MONTH_SECONDS)
    return home


def everything(home: Home) -> list[query.Record]:
    return query.search(home.database, limit=1000)


def auditor(home: Home) -> Identity:
    return parse_identity((home.keys / DEV_IDENTITY).read_text())


def test_newest_come_first_and_pages_follow(written: Home) -> None:
    """Pages by number cover everything once, of one kind and of all."""
    for kind in (None, Kind.AUDIT_SEARCHED):
        seqs: list[int] = []
        while page := query.search(
            written.database, kind=kind, before_seq=seqs[-1] if seqs else None, limit=3
        ):
            seqs += [each.seq for each in page]
        assert seqs == [each.seq for each in query.search(written.database, kind=kind, limit=1000)]
        assert seqs == sorted(seqs, reverse=True)
    assert query.search(written.database, before_seq=0) == []


def test_contents_are_scanned_in_pages(written: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pages, each content comes once, in order, as reading it alone gives it."""
    home = written
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


def test_a_scan_leaves_out_what_it_has_no_share_for(written: Home) -> None:
    """Only what was released is opened."""
    home = written
    released = {each.hex(): secret for each, secret in shares.release(home, shares.ids(home)).items()}
    (share,) = {each.header.subj for each in everything(home) if each.header.seq == everything(home)[5].seq}
    one = {name: secret for name, secret in released.items() if name == share}

    found = list(query.scan(home.database, [auditor(home)], one))

    assert {each.record.header.subj for each in found} == set(one)


def test_a_scan_stops_at_a_content_that_does_not_open(written: Home, tmp_path: Path) -> None:
    """A stranger's identity opens nothing, and that is an error and no empty answer."""
    home = written
    released = {each.hex(): secret for each, secret in shares.release(home, shares.ids(home)).items()}

    with pytest.raises(VerificationError):
        next(query.scan(home.database, [Identity.generate("stranger")], released))
