"""Verification of what came since the last one: begins where that ended, and believes no more than it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import config
from appliance.alone import Alone, open_log_alone
from appliance.audit import entry
from appliance.audit.entry import Entry
from appliance.audit.fsck.source import SqliteSource
from appliance.audit.fsck.tree import Tree
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.report import Report
from appliance.audit.verdict import Verification
from appliance.config import Home
from appliance.core import Delta, Outcome, Role
from tests.clocks import ManualClock
from tests.verifying import unguarded, verify


def opened(log: AuditLog, request: str) -> int:
    public: dict[str, str | int] = {"model": "m", "model_sha256": "0" * 64, "stream": 1}
    return log.append_sync(
        Entry(
            kind=Kind.REQUEST_OPENED,
            public=public,
            content={"text": "question"},
            request_id=request,
            actor="key",
        )
    ).seq


def closed(log: AuditLog, request: str, opening: int, *, num_segments: int = 0) -> None:
    log.append_sync(
        entry.closed(request, opening, model="m", outcome=Outcome.STOP, num_segments=num_segments)
    )


def recorded(alone: Alone, report: Report) -> None:
    asyncio.run(alone.administration.verifications.record(Verification.of(report, 1)))


@pytest.fixture
def written(home: Home, clock: ManualClock) -> tuple[Home, int]:
    """A record with a green verification in its middle, and requests that lie across it."""
    with open_log_alone(home, config.load(home), clock) as alone:
        log = alone.audit
        asyncio.run(alone.administration.create_key("lobby", Role.KIOSK))
        for number in range(40):
            closed(log, f"req_{number}", opened(log, f"req_{number}"))
        across = opened(log, "req_across")
        log.append_sync(entry.segment("req_across", across, 0, Delta("one", 1), subject="key:k"))
        other = opened(log, "req_other")
        clock.advance(700)
        log.append_sync(Entry(kind=Kind.LOG_ALARM, public={"code": "x"}, content={"text": "new epoch"}))
        report = verify(home, may_be_open=True)
        recorded(alone, report)
        log.append_sync(entry.segment("req_across", across, 1, Delta("two", 1), subject="key:k"))
        closed(log, "req_across", across, num_segments=2)
        closed(log, "req_other", other)
        clock.advance(700)
        for number in range(40, 60):
            closed(log, f"req_{number}", opened(log, f"req_{number}"))
    assert report.findings == []
    assert report.begin == 0
    return home, report.num_entries


def test_it_begins_where_the_last_green_one_ended(written: tuple[Home, int]) -> None:
    """Only the rest is read, requests that lie across are followed, and the root is the same."""
    home, size = written

    since, whole = verify(home, since_last=True), verify(home)

    assert (since.findings, since.begin, whole.begin) == ([], size, 0)
    assert (since.num_entries, since.root) == (whole.num_entries, whole.root)


def test_without_an_earlier_one_it_reads_everything(home: Home, clock: ManualClock) -> None:
    """The first verification is a full one, whatever it was asked for."""
    with open_log_alone(home, config.load(home), clock):
        pass

    assert verify(home, since_last=True).begin == 0


Deed = Callable[[sqlite3.Connection, int], object]


def act(sql: str, params: Callable[[int], tuple[int, ...]] = lambda _: ()) -> Deed:
    """A statement, with numbers that hang on where the verification ended."""
    return lambda connection, size: connection.execute(sql, params(size))


def rewrite(old: str, new: str, where: str, params: Callable[[int], tuple[int, ...]] = lambda _: ()) -> Deed:
    """A header with another text in it."""
    changed = f"CAST(replace(CAST(hdr AS TEXT), '{old}', '{new}') AS BLOB)"
    return act(f"UPDATE log_entry SET hdr = {changed} WHERE {where}", params)


RED: dict[str, Deed] = {
    "a changed header": rewrite("stop", "fail", "seq = ?", lambda size: (size + 3,)),
    "a changed column": act("UPDATE log_entry SET outcome = 'x' WHERE seq = ?", lambda size: (size + 3,)),
    "a deleted entry": act("DELETE FROM log_entry WHERE seq = ?", lambda size: (size + 5,)),
    "a deleted tail": act("DELETE FROM log_entry WHERE seq > ?", lambda size: (size + 5,)),
    "a deleted content": act("DELETE FROM log_payload WHERE seq > ?", lambda size: (size + 5,)),
    "a changed node": act(
        "UPDATE node SET h = zeroblob(32) WHERE level = 0 AND idx = ?", lambda size: (size + 2,)
    ),
    "a stranger before the first": act(
        "INSERT INTO log_entry SELECT -1, ts, kind, req, bi_key, model, outcome, hdr, leaf, bi_user, subj, "
        "prev, code, prompt_tokens, completion_tokens, bi_session, bi_addr"
        " FROM log_entry WHERE seq = 1"
    ),
    "a key by hand": act(
        "INSERT INTO api_key SELECT 'k_new', name, role, secret_sha256, created_us, NULL, NULL FROM api_key"
    ),
    "a changed key": act("UPDATE api_key SET role = 'operator'"),
    "a dropped key": act("DELETE FROM api_key"),
    "a record of a key, changed with it": rewrite("kiosk", "admin", "kind = 'key:created'"),
    "an epoch's wrap": act(
        "UPDATE epoch_wrap SET wrap = zeroblob(1168) WHERE epoch = (SELECT max(epoch) FROM epoch_wrap)"
    ),
    "a kept checkpoint": act("DELETE FROM checkpoint WHERE size = (SELECT max(size) FROM checkpoint)"),
    "another policy": act("INSERT INTO key_policy VALUES ('x', 'y', '')"),
}


@pytest.mark.parametrize("name", RED)
def test_what_was_tampered_with_since_is_found(written: tuple[Home, int], tmp_path: Path, name: str) -> None:
    """New entries, their contents and tree, and all state rows are looked at each time."""
    home, size = written
    copy = tmp_path / "copy.db"
    shutil.copy(home.database, copy)
    with unguarded(copy) as sql:
        RED[name](sql, size)

    report = verify(home, copy, since_last=True)

    assert report.begin == size
    assert not report.is_green


def test_a_second_closing_across_the_border_is_found(home: Home, clock: ManualClock) -> None:
    """A request that was closed before the border can not be closed behind it."""
    with open_log_alone(home, config.load(home), clock) as alone:
        opening = opened(alone.audit, "req_twice")
        closed(alone.audit, "req_twice", opening)
        recorded(alone, verify(home))
        closed(alone.audit, "req_twice", opening)

    report = verify(home, since_last=True)

    assert report.begin > 0
    assert ["closing" in each.message for each in report.findings] == [True]


def pose(sql: sqlite3.Connection, size: int) -> None:
    """An old entry poses as a verification that ended later than the true one, with that size's true root."""
    ((header, said),) = sql.execute(
        "SELECT hdr, json_extract(CAST(hdr AS TEXT), '$.pub.root') FROM log_entry WHERE kind = 'log:verified'"
    )
    (path,) = [row[2] for row in sql.execute("PRAGMA database_list")]
    with SqliteSource(Path(path)) as source:
        root = Tree.load(size + 10, source).root(size + 10).hex()
    forged = header.replace(said.encode(), root.encode()).replace(
        b'"size":%d' % size, b'"size":%d' % (size + 10)
    )
    sql.execute(
        "UPDATE log_entry SET kind = 'log:verified', ts = ts + 10000000000, hdr = ? WHERE seq = 3", (forged,)
    )


def lowest_edge(size: int) -> tuple[int, int]:
    level = (size & -size).bit_length() - 1
    return level, (size >> level) - 1


FORGED: dict[str, Deed] = {
    "an old entry": pose,
    "a root that never was": rewrite('"root":"', '"root":"0', "kind = 'log:verified'"),
    "its edge is gone": act("DELETE FROM node WHERE level = ? AND idx = ?", lowest_edge),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_verification_that_does_not_fit_is_not_believed(
    written: tuple[Home, int], tmp_path: Path, name: str
) -> None:
    """Then everything is read, and what was forged is found."""
    home, size = written
    copy = tmp_path / "copy.db"
    shutil.copy(home.database, copy)
    with unguarded(copy) as sql:
        FORGED[name](sql, size)

    report = verify(home, copy, since_last=True)

    assert report.begin == 0
    assert not report.is_green
