"""What tests ask of a home's record: each helper reads the database, as an auditor's tool would."""

from __future__ import annotations

import functools

from appliance import config, db
from appliance.audit import files, fsck, query, shares
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.audit.report import Expected, lines_of
from appliance.cli.verifying import expected_schema
from appliance.config import Home
from appliance.databases.base import Database
from appliance.state import STATE_TABLES
from tests.harness import appliance


def place(home: Home) -> Database:
    """Where the home's record is: in it, or on a server."""
    return db.of(home, config.load(home))


def closing_of(home: Home, request_id: str) -> Record:
    """The one closing of a request; AssertionError where there is none or a second."""
    closings = [
        record for record in query.by_request(place(home), request_id) if record.kind is Kind.REQUEST_CLOSED
    ]
    assert len(closings) == 1, closings
    return closings[0]


def openings(home: Home) -> list[Record]:
    """Every opening on the record."""
    return list(query.search(place(home), kind=Kind.REQUEST_OPENED, limit=100_000))


def assert_verified(home: Home) -> None:
    """`appliance audit verify` is green."""
    done = appliance("audit", "verify", home=home, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def findings(home: Home) -> list[str]:
    """What `verify` finds, in this process: for tests that look a hundred times."""
    expected = Expected(
        verifier=files.read_verifier(home),
        schema=_schema(),
        revision=db.schema(home.database).head,
        state_tables={each.name: next(iter(each.primary_key)).name for each in STATE_TABLES},
        head_note=home.head.read_text(encoding="utf-8") if home.head.exists() else "",
        shares=lambda: shares.ids(home),
    )
    return list(lines_of(fsck.verify(fsck.SqliteSource(home.database), expected)))


@functools.cache
def _schema() -> dict[str, str]:
    return expected_schema()
