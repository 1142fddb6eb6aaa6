"""Rows for programs and spreadsheets: whatever an entry holds, they are inert."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import query, rows
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from tests.clocks import ManualClock
from tests.homes import make_home

HOSTILE = [
    "a\r\nseq: 7",
    "\x1b[2J\x1b]0;x\x07",
    "nul\x00",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u200bzero",
    "line\u2028sep",
    "\x85next",
    "<script>alert(1)</script>",
    "{{ 7 * 7 }} ${7*7} {% x %}",
    '=HYPERLINK("http://x")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "\uff1d1",
    'quote " comma , semicolon ;',
    "\ufeffbom",
    "\U000e0001tag",
]
STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A refusal as it is read from a record."""
    home = make_home(tmp_path_factory.mktemp("rows") / "home")
    with open_log_alone(home, config.load(home), ManualClock()) as alone:
        alone.audit.append_sync(Entry(kind=Kind.REQUEST_REFUSED, public={"code": "x", "route": "y"}))
    return query.search(home.database, kind=Kind.REQUEST_REFUSED)[0]


def hostile(record: Record, text: str) -> Record:
    return dataclasses.replace(record, request_id=text, public={"code": text, "model": text, "route": text})


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_csv_is_one_row_of_harmless_cells(record: Record, text: str) -> None:
    """RFC 4180 gives back as many cells; none begins a formula, none steers."""
    data = rows.csv_lines([rows.csv_row(hostile(record, text))]).decode()
    (row,) = csv.reader(io.StringIO(data, newline=""))

    assert len(row) == len(rows.COLUMNS)
    assert data.count("\n") == data.count("\r\n") == 1
    for cell in row:
        assert not STEERING.search(cell)
        assert not re.match(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]", cell)
    assert json.loads(row[rows.COLUMNS.index("more")]) == {"route": text}


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_is_one_ascii_line_that_says_the_same(record: Record, text: str) -> None:
    """Nothing that steers stands in it as it is, and nothing is lost."""
    line = rows.json_line(rows.plain(hostile(record, text)))

    assert line.isascii()
    assert line.count(b"\n") == 1
    assert not STEERING.search(line.decode()[:-1])
    assert json.loads(line)["public"]["route"] == text


@given(st.text())
def test_no_text_is_a_formula_or_steers(text: str) -> None:
    """Of all texts there are."""
    shown = rows.cell(text)

    assert not STEERING.search(shown)
    assert not re.match(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]", shown)


def test_numbers_stay_numbers_and_moments_are_rfc_3339(record: Record) -> None:
    """A negative number is no formula; what no calendar has is told as a number."""
    assert rows.csv_lines([[-1, "x"]]) == b'"-1","x"\r\n'
    assert rows.moment(1_000_001) == "1970-01-01T00:00:01.000001Z"
    assert rows.moment(1 << 62) == str(1 << 62)
    assert rows.plain(record)["time"].endswith("Z")
