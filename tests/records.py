"""What tests ask of a home's record: each helper reads the database, as an auditor's tool would."""

from __future__ import annotations

from appliance.audit import query
from appliance.audit.entry import Kind
from appliance.audit.query import Record
from appliance.config import Home
from tests.harness import appliance


def closing_of(home: Home, request_id: str) -> Record:
    """The one closing of a request; AssertionError where there is none or a second."""
    closings = [
        record for record in query.by_request(home.database, request_id) if record.kind is Kind.REQUEST_CLOSED
    ]
    assert len(closings) == 1, closings
    return closings[0]


def openings(home: Home) -> list[Record]:
    """Every opening on the record."""
    return list(query.search(home.database, kind=Kind.REQUEST_OPENED, limit=100_000))


def assert_verified(home: Home) -> None:
    """`appliance audit verify` is green."""
    done = appliance("audit", "verify", home=home, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
