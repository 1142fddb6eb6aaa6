"""Open acts at rest: nobody named in the clear, nothing lost in a crash, every row on the record."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.audit import drafts, query
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.errors import ApplianceError, AuditUnavailable, VerificationError
from tests.office import ADA, HERE, PAUL, Room, erasure, room_of
from tests.records import findings

CANARY = "canary-4711"


@pytest.fixture
def room(home: Home) -> Iterator[Room]:
    with room_of(home) as made:
        yield made


async def code_of(attempt: Any) -> str:
    with pytest.raises(ApplianceError) as refused:
        await attempt
    return refused.value.code


async def test_act_names_nobody_in_the_clear(room: Room) -> None:
    """Whom it names and why stand in no file of the home in plaintext, open or closed; deciders read it."""
    made = await room.approvals.draft(erasure(room.alone, CANARY, reason=f"for {CANARY}"), PAUL, HERE)
    await room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)

    def held() -> bytes:
        return b"".join(path.read_bytes() for path in room.home.root.rglob("*") if path.is_file())

    shown = room.approvals.get(made.row.id)
    assert shown.act is not None
    assert CANARY in shown.act.note()
    assert CANARY not in repr(shown)
    assert CANARY.encode() not in held()
    for entry in query.search(room.home.database, limit=100):
        assert CANARY not in repr(entry)
    await room.approvals.withdraw(made.row.id, f"not {CANARY}", PAUL, HERE)
    assert CANARY.encode() not in held()


async def test_closed_act_opens_in_no_copy(room: Room) -> None:
    """Its key is destroyed: a database from before holds a text that nothing opens."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    assert room.keys() == [f"act-{made.row.id}.key"]
    await room.approvals.withdraw(made.row.id, "asked again", PAUL, HERE)

    assert room.keys() == []
    with pytest.raises(VerificationError, match="does not open"):
        drafts.read(room.home, made.row)
    assert room.approvals.get(made.row.id).act is None


async def test_restored_copy_says_that_a_text_is_gone(room: Room) -> None:
    """Keys of acts are in no backup: such an act is told as what it is, and can be withdrawn."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    (room.home.keys / f"act-{made.row.id}.key").unlink()
    found = room.approvals.get(made.row.id)

    assert found.act is None
    assert "does not open" in found.problem
    assert await code_of(room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)) == "act_unreadable"
    over = await room.approvals.withdraw(made.row.id, "a restored copy", PAUL, HERE)
    assert over.row.outcome == "withdrawn"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE drafted_act SET num_signatures = 2",
        "UPDATE drafted_act SET outcome = 'applied', closed_us = 5",
        "UPDATE drafted_act SET sealed = x''",
        "UPDATE drafted_act SET seq = 1",
        "DELETE FROM drafted_act",
        "INSERT INTO drafted_act VALUES ('x', 'hold:lift', x'', 0, 1, NULL, 'open', NULL)",
    ],
)
async def test_row_changed_behind_the_log_is_found(room: Room, change: str) -> None:
    """What waits for signatures is as much on the record as an account is."""
    await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    assert findings(room.home) == []
    with contextlib.closing(sqlite3.connect(room.home.database, isolation_level=None)) as connection:
        connection.execute(change)

    assert any("drafted_act" in each for each in findings(room.home))


@pytest.mark.parametrize("lost", [Kind.ACT_DRAFTED, Kind.ACT_SIGNED, Kind.ACT_CLOSED])
async def test_what_can_not_be_recorded_does_not_happen(
    room: Room, monkeypatch: pytest.MonkeyPatch, lost: Kind
) -> None:
    """A draft leaves no key, a signature no trace; a closing that was lost is made up at the next start."""
    genuine = room.alone.audit.append

    async def append(entry: Any) -> Any:
        if entry.kind is lost:
            raise AuditUnavailable("the log is closed")
        return await genuine(entry)

    made = None
    if lost is not Kind.ACT_DRAFTED:
        made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    if lost is Kind.ACT_CLOSED and made:
        await room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)
    monkeypatch.setattr(room.alone.audit, "append", append)
    with pytest.raises(AuditUnavailable):
        if made is None:
            await room.approvals.draft(erasure(room.alone), PAUL, HERE)
        else:
            await room.approvals.sign(made.row.id, room.auditor, ADA, HERE)
    monkeypatch.setattr(room.alone.audit, "append", genuine)

    if made is None:
        assert (room.keys(), room.approvals.all()) == ([], [])
        return
    assert room.approvals.get(made.row.id).row.num_signatures == (2 if lost is Kind.ACT_CLOSED else 0)
    await room.approvals.tidy()
    found = room.approvals.get(made.row.id).row
    assert found.outcome == ("applied" if lost is Kind.ACT_CLOSED else "open")
    assert room.kinds().count("content:erased") == (lost is Kind.ACT_CLOSED)
    assert room.keys() == ([] if lost is Kind.ACT_CLOSED else [f"act-{made.row.id}.key"])
    assert findings(room.home) == []


async def test_start_destroys_keys_of_acts_that_never_came(room: Room) -> None:
    """What a crash between key and row left opens nothing, and goes; open acts keep theirs."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    drafts.new(room.home, "content:erase", "a crash", num_signatures=0, now_us=1)
    assert len(room.keys()) == 2
    await room.approvals.tidy()

    assert room.keys() == [f"act-{made.row.id}.key"]
