"""What `audit show` says of inclusion holds against somebody who changed the database."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3

import pytest

from appliance.audit import files, query
from appliance.config import Home
from appliance.errors import VerificationError
from tests.clocks import ManualClock
from tests.unit.audit.test_log import open_log, opening


def forge(home: Home, request_id: str, level: str) -> None:
    """Change what an entry says, and as many hashes above it as `level` tells."""
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as sql:
        for table in ("log_entry", "node"):
            sql.execute(f"DROP TRIGGER {table}_no_update")
        seq, data = sql.execute("SELECT seq, hdr FROM log_entry WHERE req = ?", [request_id]).fetchone()
        data = data.replace(b'"model":"m"', b'"model":"x"')
        leaf = hashlib.sha256(b"\x00" + data).digest()
        sql.execute("UPDATE log_entry SET hdr = ? WHERE seq = ?", [data, seq])
        if level != "header":
            sql.execute("UPDATE log_entry SET leaf = ? WHERE seq = ?", [leaf, seq])
        if level == "tree":
            sql.execute("UPDATE node SET h = ? WHERE level = 0 AND idx = ?", [leaf, seq])
            for upper in range(1, 10):
                for (index,) in sql.execute("SELECT idx FROM node WHERE level = ?", [upper]).fetchall():
                    below = [
                        sql.execute(
                            "SELECT h FROM node WHERE level = ? AND idx = ?", [upper - 1, 2 * index + side]
                        ).fetchone()[0]
                        for side in (0, 1)
                    ]
                    made = hashlib.sha256(b"\x01" + b"".join(below)).digest()
                    sql.execute("UPDATE node SET h = ? WHERE level = ? AND idx = ?", [made, upper, index])


@pytest.mark.parametrize("level", ["header", "leaf", "tree"])
def test_forged_entry_is_not_included(home: Home, clock: ManualClock, level: str) -> None:
    """The proof is about the header that is shown, and ends in a root that the log has signed."""
    log = open_log(home, clock)
    for number in range(6):
        log.append_sync(opening(f"req_{number}"))
    log.close()
    verifier = files.read_verifier(home)
    (genuine,) = query.by_request(home.database, "req_2")
    size = query.search(home.database, limit=1)[0].seq + 1
    assert query.prove(home.database, genuine, verifier) == (size, True)
    forge(home, "req_2", level)
    (forged,) = query.by_request(home.database, "req_2")

    assert forged.public["model"] == "x"
    assert query.prove(home.database, forged, verifier)[1] is False


def test_proof_needs_a_checkpoint_of_this_log(home: Home, clock: ManualClock) -> None:
    """A newest checkpoint that the log did not sign proves nothing."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    log.close()
    (record,) = query.by_request(home.database, "req_1")
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as sql:
        sql.execute("UPDATE tree_head SET note = replace(note, '=', 'x')")
    with pytest.raises(VerificationError):
        query.prove(home.database, record, files.read_verifier(home))
