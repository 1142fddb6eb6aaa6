"""Every value of every table, changed in every way: verify goes red, and names the entry.

Tables and columns are read from the schema that the migrations make: a new one is covered by itself.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.report import Report
from appliance.config import Home
from tests.tampered import Row, dump, keys_of, rows_of, tables, tampered, written_home
from tests.verifying import schema, verify

TABLES = sorted(name.removeprefix("table ") for name in schema() if name.startswith("table "))
MAX_ROWS = 10


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose record has something of everything, at rest in one file."""
    return written_home(tmp_path_factory.mktemp("tampering") / "home")


def sampled(home: Home, table: str) -> list[Row]:
    rows = rows_of(home.database, table)
    return random.Random(table).sample(rows, min(MAX_ROWS, len(rows)))


def test_untouched_copy_is_green_and_every_table_has_rows(written: Home, tmp_path: Path) -> None:
    """The control: what the tests do around a change is not what turns the report red."""
    with tampered(written, tmp_path) as (_, copy):
        pass

    report = verify(written, copy)
    assert report.findings == []
    assert report.num_entries > 20
    assert (report.num_erased, report.num_removed) == (6, 5)
    assert tables(written.database) == TABLES
    assert all(rows_of(written.database, table) for table in TABLES)


def neighbours(value: Any) -> list[Any]:
    """One flipped bit, a longer and a shorter one, nothing, and the same look in another type."""
    match value:
        case b"":
            return [b"\0", "", 0, None]
        case bytes():
            at = len(value) // 2
            flipped = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
            return [flipped, value[:-1], value + b"\0", b"", value.hex(), value.decode("latin-1"), None]
        case "":
            return ["x", b"", 0, None]
        case str():
            at = len(value) // 2
            flipped_text = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
            return [flipped_text, value + " ", value + "\0", value.swapcase(), "", value.encode(), 0, None]
        case int():
            return [value + 1, value ^ 64, -value - 1, value + 0.5, f"{value}x", str(value).encode(), None]
        case None:
            return [0, "", b"", b"x"]
        case _:
            raise AssertionError(type(value))


@pytest.mark.parametrize("table", TABLES)
def test_every_changed_value_is_found(written: Home, tmp_path: Path, table: str) -> None:
    """Each column of each row (sampled where there are many), in each way it can change."""
    keys = keys_of(written.database, table)
    where = " AND ".join(f"{key} IS ?" for key in keys) or "1"
    before = dump(written.database)[table]
    survivors, nameless = [], []
    for row in sampled(written, table):
        for column, value in row.items():
            for changed in neighbours(value):
                with tampered(written, tmp_path) as (connection, copy):
                    try:
                        connection.execute(
                            f"UPDATE {table} SET {column} = ? WHERE {where}",
                            [changed, *(row[key] for key in keys)],
                        )
                    except sqlite3.IntegrityError:
                        continue  # the schema itself refuses this value
                if dump(copy)[table] == before:
                    continue  # SQLite's type affinity gave the old value back
                report = verify(written, copy)
                if report.is_green:
                    survivors.append((column, value, changed))
                elif not is_named(report, table, row):
                    nameless.append((column, value, changed))

    assert survivors == []
    assert nameless == []


def is_named(report: Report, table: str, row: Row) -> bool:
    """Whether a finding stands at the entry that the row belongs to, or for want of one at the table."""
    seqs = {each.seq for each in report.findings}
    if table in {"log_entry", "log_payload", "retention", "erasure"}:
        return row["seq"] in seqs
    if table == "node" and row["level"] == 0:
        return row["idx"] in seqs
    if table == "epoch":
        return row["first_seq"] in seqs
    if table in {"epoch_wrap", "key_policy"}:
        return seqs != {None}
    return table in {each.where for each in report.findings}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("act", ["delete", "duplicate", "swap", "swap one column"])
def test_rows_can_not_be_dropped_added_or_swapped(
    written: Home, tmp_path: Path, table: str, act: str
) -> None:
    """Each row deleted; a row added beside it; two rows' values exchanged, all of them or one."""
    keys = keys_of(written.database, table)
    rows = rows_of(written.database, table)
    if "swap" in act and len(rows) < 2:
        return
    for number in random.Random(table).sample(range(len(rows)), min(MAX_ROWS, len(rows))):
        row, other = rows[number], rows[number - 1]
        columns = [[name] for name in row if name not in keys] if act == "swap one column" else [list(row)]
        for names in columns:
            with tampered(written, tmp_path) as (connection, copy):
                if not DEEDS[act](connection, table, keys, row, other, names):
                    continue
            assert not verify(written, copy).is_green, (table, act, row, names)


def _delete(
    sql: sqlite3.Connection, table: str, keys: list[str], row: Row, _other: Row, _names: list[str]
) -> bool:
    where = " AND ".join(f"{key} IS ?" for key in keys) or "1"
    return sql.execute(f"DELETE FROM {table} WHERE {where}", [row[key] for key in keys]).rowcount == 1


def _duplicate(
    sql: sqlite3.Connection, table: str, keys: list[str], row: Row, _other: Row, _names: list[str]
) -> bool:
    """An insertion: the row once more, under keys before, beside and behind its own."""
    last = (keys or list(row))[-1]
    marks = ", ".join("?" for _ in row)
    num_added = 0
    for other in _other_keys(row[last]):
        try:
            num_added += sql.execute(
                f"INSERT INTO {table} VALUES ({marks})", [*(row | {last: other}).values()]
            ).rowcount
        except sqlite3.IntegrityError:  # a table of one row by its own constraint
            continue
        break
    return num_added > 0


def _other_keys(value: Any) -> list[Any]:
    match value:
        case int():
            return [value + 100_000, -5]
        case bytes():
            return [bytes([value[0] ^ 1]) + value[1:]]
        case _:
            return ["x" + value[1:]]


def _swap(
    sql: sqlite3.Connection, table: str, keys: list[str], row: Row, other: Row, names: list[str]
) -> bool:
    names = [name for name in names if name not in keys]
    if not names or [row[name] for name in names] == [other[name] for name in names]:
        return False
    sets = ", ".join(f"{name} = ?" for name in names)
    where = " AND ".join(f"{key} IS ?" for key in keys)
    for here, there in ((row, other), (other, row)):
        sql.execute(
            f"UPDATE {table} SET {sets} WHERE {where}",
            [*(there[name] for name in names), *(here[key] for key in keys)],
        )
    return True


Deed = Callable[[sqlite3.Connection, str, list[str], Row, Row, list[str]], bool]
DEEDS: dict[str, Deed] = {
    "delete": _delete,
    "duplicate": _duplicate,
    "swap": _swap,
    "swap one column": _swap,
}


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
