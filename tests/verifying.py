"""The verifier as tests use it: a home against what it should be."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from appliance import db
from appliance.audit import files, fsck, shares
from appliance.audit.report import Expected, Report
from appliance.cli.verifying import expected_schema
from appliance.config import Home
from appliance.state import STATE_TABLES
from tests.records import place


@functools.cache
def schema(dialect: str = "sqlite") -> dict[str, str]:
    """What the migrations make, made once."""
    return expected_schema(dialect)


@functools.cache
def revision() -> str:
    """The newest migration's name."""
    return db.schema(Path("nowhere")).head


def expected_of(home: Home, *, may_be_open: bool = False, beside_head: bool = True) -> Expected:
    """What the home's record is measured against."""
    return Expected(
        verifier=files.read_verifier(home),
        schema=schema(place(home).dialect),
        revision=revision(),
        state_tables={each.name: next(iter(each.primary_key)).name for each in STATE_TABLES},
        head_note=home.head.read_text() if beside_head else None,
        may_be_open=may_be_open,
        shares=lambda: shares.ids(home),
    )


def verify(
    home: Home,
    path: Path | None = None,
    *,
    since_last: bool = False,
    may_be_open: bool = False,
    beside_head: bool = True,
) -> Report:
    """What `appliance audit verify` finds, on the home's database or on a copy of it."""
    expected = expected_of(home, may_be_open=may_be_open, beside_head=beside_head)
    source = fsck.source_of(db.at(path) if path is not None else place(home))
    return fsck.verify(source, expected, since_last=since_last)


@contextlib.contextmanager
def unguarded(path: Path) -> Iterator[sqlite3.Connection]:
    """A database without its triggers; they are put back, so that the schema is not what tells."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # nobody needs it behind a power cut
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in triggers:
            connection.execute(sql)
