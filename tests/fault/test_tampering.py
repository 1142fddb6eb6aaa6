"""Every value of every table, flipped, nulled, swapped, deleted, duplicated: verify goes red."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import config, db
from appliance.audit import entry, files, fsck
from appliance.audit.entry import Entry, Kind
from appliance.audit.recipients import Identity
from appliance.audit.report import Expected, Report
from appliance.cli.audit import expected_schema
from appliance.config import Home
from appliance.core import Outcome, Role, Usage
from appliance.services import STATE_TABLES, Alone, open_log_alone
from tests.acts import dev_auditor, erase, signed, with_member
from tests.clocks import ManualClock
from tests.homes import make_home

TABLES = (
    "log_entry", "log_payload", "node", "checkpoint", "tree_head", "epoch", "epoch_wrap", "key_policy",
    "erasure", "retention", "legal_hold", "api_key", "alembic_version",
)  # fmt: skip
MAX_ROWS = 12


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose record has something of everything, at rest in one file."""
    home = make_home(tmp_path_factory.mktemp("tampering") / "home")
    clock = ManualClock(2_000_000_000_000_000)
    settings = config.parse(
        home.config.read_text().replace("[audit]", '[audit]\nretention_days = { "key:created" = 190 }')
    )
    with open_log_alone(home, settings, clock) as alone:

        async def keys() -> None:
            for name in ("lobby", "counter", "desk"):
                await alone.administration.create_key(name, Role.KIOSK)
            await alone.administration.revoke_key("desk")

        asyncio.run(keys())
        for number in range(6):
            request = f"req_{number}"
            opened = alone.audit.append_sync(
                Entry(
                    kind=Kind.REQUEST_OPENED,
                    public={"model": "m", "model_sha256": "0" * 64, "stream": 1},
                    content={"text": "question"},
                    request_id=request,
                    actor="key",
                )
            )
            alone.audit.append_sync(entry.segment(request, opened.seq, 0, "answer", 2, subject="key:k"))
            alone.audit.append_sync(
                entry.closed(
                    request, opened.seq, model="m", outcome=Outcome.STOP, usage=Usage(3, 2), num_segments=1
                )
            )
            if number == 3:
                clock.advance(700)
        asyncio.run(ceremonies(alone, home, clock))
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return home


async def ceremonies(alone: Alone, home: Home, clock: ManualClock) -> None:
    """A second policy, an erasure that its members agreed to, holds, and contents whose time is over."""
    auditor, privacy = dev_auditor(home), Identity.generate("privacy")
    draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
    await alone.custody.change_policy(signed(draft, auditor))
    assert await erase(alone, auditor, privacy, key="k") == 1
    for user in ("one", "two"):
        await alone.custody.hold(api_key="", user=user, since_us=0, until_us=1, reason="a case")
    clock.advance(200 * 86_400)
    assert [each.num_contents for each in await alone.custody.retain()] == [3]


def verify(home: Home, path: Path) -> Report:
    expected = Expected(
        verifier=files.read_verifier(home),
        schema=expected_schema(),
        revision=db.schema(home.database).head,
        state_tables={each.name: "id" for each in STATE_TABLES},
        head_note=home.head.read_text(),
    )
    return fsck.verify(path, expected)


@contextlib.contextmanager
def tampered(home: Home, tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """A copy without its triggers; they are put back, so that the schema is not what tells."""
    copy = tmp_path / "copy.db"
    shutil.copy(home.database, copy)
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # nobody needs the copy behind a power cut
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection, copy
        for _, sql in triggers:
            connection.execute(sql)


def columns(home: Home, table: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def flip(value: Any) -> list[Any]:
    """Neighbours of a value: one flipped byte, and another type with the same look."""
    match value:
        case bytes():
            at = len(value) // 2
            return [value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :], value[:-1], None]
        case "":
            return ["x", b"", None]
        case str():
            at = len(value) // 2
            return [value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :], value + " ", value.encode(), None]
        case int():
            return [value + 1, value ^ 64, None]
        case None:
            return [0, "", b"x"]
        case _:
            raise AssertionError(type(value))


def identity(home: Home, table: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]


def test_untouched_copy_is_green(written: Home, tmp_path: Path) -> None:
    """The control: what the tests do around a change is not what turns the report red."""
    with tampered(written, tmp_path) as (_, copy):
        pass

    report = verify(written, copy)
    assert report.findings == []
    assert report.num_entries > 20
    with contextlib.closing(sqlite3.connect(written.database)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    assert names == set(TABLES)
    assert all(counts.values())


@pytest.mark.parametrize("table", TABLES)
def test_every_changed_value_is_found(written: Home, tmp_path: Path, table: str) -> None:
    """Each column of each row (sampled where there are many), in each way it can change."""
    keys = identity(written, table)
    where = " AND ".join(f"{key} IS ?" for key in keys)
    with contextlib.closing(sqlite3.connect(written.database)) as connection:
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
    chosen = random.Random(table).sample(rows, min(MAX_ROWS, len(rows)))
    survivors = []
    for row in chosen:
        values = dict(zip(columns(written, table), row, strict=True))
        for column, value in values.items():
            for changed in flip(value):
                with tampered(written, tmp_path) as (connection, copy):
                    try:
                        connection.execute(
                            f"UPDATE {table} SET {column} = ? WHERE {where}",
                            [changed, *(values[key] for key in keys)],
                        )
                    except sqlite3.IntegrityError:
                        continue  # the schema itself refuses this value
                if stored_same(copy, written.database, table):
                    continue  # SQLite's type affinity gave the old value back
                if verify(written, copy).is_green:
                    survivors.append((column, type(changed).__name__))

    assert survivors == []


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("act", ["delete", "duplicate", "swap"])
def test_rows_can_not_be_dropped_added_or_swapped(
    written: Home, tmp_path: Path, table: str, act: str
) -> None:
    """Each row deleted; a row added beside it; two rows' values exchanged."""
    names = columns(written, table)
    keys = identity(written, table)
    with contextlib.closing(sqlite3.connect(written.database)) as connection:
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
    if act == "swap" and len(rows) < 2:
        return
    for number in random.Random(table).sample(range(len(rows)), min(MAX_ROWS, len(rows))):
        row = dict(zip(names, rows[number], strict=True))
        with tampered(written, tmp_path) as (connection, copy):
            if not DEEDS[act](connection, table, keys, row, dict(zip(names, rows[number - 1], strict=True))):
                continue
        assert not verify(written, copy).is_green, (table, act, number)


def _delete(sql: sqlite3.Connection, table: str, keys: list[str], row: Any, _other: Any) -> bool:
    where = " AND ".join(f"{key} IS ?" for key in keys)
    return sql.execute(f"DELETE FROM {table} WHERE {where}", [row[key] for key in keys]).rowcount == 1


def _duplicate(sql: sqlite3.Connection, table: str, keys: list[str], row: Any, _other: Any) -> bool:
    last = keys[-1]
    value = row[last]
    match value:
        case int():
            other: object = value + 100_000
        case bytes():
            other = bytes([value[0] ^ 1]) + value[1:]
        case _:
            other = "x" + value[1:]
    marks = ", ".join("?" for _ in row)
    try:
        sql.execute(f"INSERT INTO {table} VALUES ({marks})", [*(row | {last: other}).values()])
    except sqlite3.IntegrityError:
        return False  # a table of one row by its own constraint
    return True


def _swap(sql: sqlite3.Connection, table: str, keys: list[str], row: Any, other: Any) -> bool:
    rest = [name for name in row if name not in keys]
    if not rest:
        return False
    sets = ", ".join(f"{name} = ?" for name in rest)
    where = " AND ".join(f"{key} IS ?" for key in keys)
    for here, there in ((row, other), (other, row)):
        sql.execute(
            f"UPDATE {table} SET {sets} WHERE {where}",
            [*(there[name] for name in rest), *(here[key] for key in keys)],
        )
    return [row[name] for name in rest] != [other[name] for name in rest]


DEEDS: dict[str, Callable[[sqlite3.Connection, str, list[str], Any, Any], bool]] = {
    "delete": _delete,
    "duplicate": _duplicate,
    "swap": _swap,
}


def dump(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(
                f"SELECT *, typeof({columns_of(connection, table)[-1]}) FROM {table}"
            ).fetchall()
            for table in TABLES
        }


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def stored_same(one: Path, two: Path, table: str) -> bool:
    return dump(one)[table] == dump(two)[table]


def test_flipped_bytes_of_the_file_are_found_or_change_nothing(written: Home, tmp_path: Path) -> None:
    """A bit anywhere in the file: red, or every table still says exactly the same."""
    data = written.database.read_bytes()
    before = dump(written.database)
    chance = random.Random(31)
    num_red = 0
    for _ in range(250):
        at = chance.randrange(len(data))
        copy = tmp_path / "flipped.db"
        copy.write_bytes(data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :])
        if verify(written, copy).is_green:
            assert dump(copy) == before, at
        else:
            num_red += 1

    assert num_red > 25


def test_truncated_tail_is_remembered_by_the_head_file(tmp_path: Path) -> None:
    """A log cut back to an earlier, properly signed state verifies alone, and not beside its head."""
    early = make_home(tmp_path / "early")
    with open_log_alone(early, config.load(early), ManualClock()) as alone:
        alone.audit.append_sync(Entry(kind=Kind.LOG_ALARM, public={"code": "one"}))
    saved = tmp_path / "saved.db"
    shutil.copy(early.database, saved)
    with open_log_alone(early, config.load(early), ManualClock()) as alone:
        alone.audit.append_sync(Entry(kind=Kind.LOG_ALARM, public={"code": "two"}))

    report = verify(early, saved)
    assert [finding.where for finding in report.findings] == ["head"]
    assert "longer once" in report.findings[0].message
