"""Open acts: two people, one text, carried out once, and nobody named in the clear."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from appliance.approvals import MAX_OPEN
from appliance.audit import acts, ceremonies, query, shares
from appliance.audit.acts import Draft, SignedAct
from appliance.audit.kinds import Kind
from appliance.audit.policy import MemberRole
from appliance.audit.recipients import Identity
from appliance.config import Home
from appliance.errors import ApplianceError, AuditUnavailable, Refused, RequestError
from tests.acts import signed, with_member
from tests.office import ADA, HERE, PAUL, Room, erasure, room_of
from tests.records import findings


@pytest.fixture
def room(home: Home) -> Iterator[Room]:
    with room_of(home) as made:
        yield made


async def code_of(attempt: Any) -> str:
    with pytest.raises(ApplianceError) as refused:
        await attempt
    return refused.value.code


async def test_two_signatures_carry_out_an_erasure(room: Room) -> None:
    """Drafted, signed by one, signed by the other: destroyed, closed, and each step stands on the record."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    assert (made.agreed, made.needed, len(made.missing)) == ((), 2, 2)
    first = await room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)
    assert first.receipt is None
    assert [each.name for each in first.standing.agreed] == ["paul"]
    assert len(shares.find(room.home, "user:key:citizen-17")) == 1
    second = await room.approvals.sign(made.row.id, room.auditor, ADA, HERE)

    assert second.receipt is not None
    row = second.standing.row
    assert (row.outcome, row.seq, row.sealed, row.num_signatures) == ("applied", second.receipt.seq, b"", 2)
    assert shares.find(room.home, "user:key:citizen-17") == []
    assert len(shares.find(room.home, "user:key:someone else")) == 1
    assert room.kinds()[1:] == ["act:drafted", "act:signed", "act:signed", "content:erased", "act:closed"]
    erased, closed = (
        query.search(room.home.database, kind=kind)[0].public
        for kind in (Kind.CONTENT_ERASED, Kind.ACT_CLOSED)
    )
    assert closed["act_sha256"] == erased["act_sha256"]
    assert findings(room.home) == []


async def test_nobody_signs_twice_and_nobody_else_signs(room: Room) -> None:
    """A member once; a stranger, or a reader who decides nothing, not at all."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    await room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)
    attempts = {
        "again": room.approvals.sign(made.row.id, room.privacy, PAUL, HERE),
        "stranger": room.approvals.sign(made.row.id, Identity.generate("eve"), ADA, HERE),
        "namesake": room.approvals.sign(made.row.id, Identity.generate(room.auditor.name), ADA, HERE),
    }
    codes = {name: await code_of(attempt) for name, attempt in attempts.items()}

    assert codes == {"again": "already_signed", "stranger": "not_a_member", "namesake": "not_a_member"}
    assert room.approvals.get(made.row.id).row.num_signatures == 1


async def test_privacy_decides_no_key_policy(room: Room) -> None:
    """Whose signature counts depends on the act: a policy is the auditors' alone."""
    more = Identity.generate("bob")
    draft = with_member(room.alone.audit.policy, room.alone.audit.origin, more, MemberRole.AUDITOR)
    made = await room.approvals.draft(draft, ADA, HERE)
    assert await code_of(room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)) == "not_a_member"
    done = await room.approvals.sign(made.row.id, room.auditor, ADA, HERE)

    assert done.receipt is not None
    assert "bob" in [each.name for each in room.alone.audit.policy.readers]


async def test_file_from_another_machine_brings_its_signature(room: Room) -> None:
    """Downloaded, signed there, brought back: it joins what was signed here, and the act is carried out."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    assert made.act is not None
    elsewhere = acts.parse(made.act.note()).signed_by(room.auditor)
    await room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)
    done = await room.approvals.take(elsewhere.note(), ADA, HERE)

    assert done.standing.row.id == made.row.id
    assert (done.standing.row.outcome, done.standing.row.num_signatures) == ("applied", 2)


async def test_act_from_the_program_is_carried_out_here(room: Room) -> None:
    """Whole with both signatures, it is drafted, closed and carried out in one go."""
    done = await room.approvals.take(signed(erasure(room.alone), room.auditor, room.privacy), ADA, HERE)

    assert done.receipt is not None
    assert room.kinds()[1:] == ["act:drafted", "content:erased", "act:closed"]


async def test_files_that_are_no_acts_of_this_log_are_refused(room: Room) -> None:
    """Nonsense, another log, another policy, a forged signature, a stranger's, a restoration, nothing new."""
    draft = erasure(room.alone)
    good = signed(draft, room.privacy)
    await room.approvals.take(good, PAUL, HERE)
    forged = SignedAct(draft, (("paul", b"x" * 64),)).note()
    restoration = Draft(draft.origin, acts.Act.RESTORE, draft.policy_sha256, {})
    months = Draft(draft.origin, draft.act, draft.policy_sha256, {**draft.parameters, "since": "2026-5"})
    unheld = Draft(draft.origin, acts.Act.HOLD_LIFT, draft.policy_sha256, {"hold": "x", "reason": "r"})
    told = {
        "nonsense": "hello",
        "empty": "",
        "changed": good.replace("asked for", "asked twice"),
        "forged": forged,
        "stranger": signed(draft, Identity.generate("eve")),
        "origin": signed(replace(draft, origin="another/audit/1"), room.privacy),
        "policy": signed(replace(draft, policy_sha256="0" * 64), room.privacy),
        "restore": SignedAct(restoration).note(),
        "months": SignedAct(months).note(),
        "unheld": SignedAct(unheld).note(),
        "again": good,
        "unsigned": SignedAct(draft).note(),
    }
    before = room.kinds()
    codes = {name: await code_of(room.approvals.take(note, PAUL, HERE)) for name, note in told.items()}

    assert codes == {
        "nonsense": "verification_failed",
        "empty": "verification_failed",
        "changed": "not_a_member",
        "forged": "not_a_member",
        "stranger": "not_a_member",
        "origin": "act_overtaken",
        "policy": "act_overtaken",
        "restore": "invalid_act",
        "months": "verification_failed",
        "unheld": "hold_not_found",
        "again": "act_exists",
        "unsigned": "act_exists",
    }
    assert room.kinds() == before


async def test_hold_stands_in_the_way_until_two_people_end_it(room: Room) -> None:
    """The erasure keeps its signatures and waits; the end of the hold is an act as well; then it goes."""
    hold, _ = await room.alone.custody.hold(
        api_key="", user="citizen-17", since_us=0, until_us=None, reason="case"
    )
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    seen = await room.approvals.foreseen(made)
    assert seen is not None
    assert [each.id for each in seen.holds] == [hold.id]
    await room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)
    stuck = await room.approvals.sign(made.row.id, room.auditor, ADA, HERE)
    assert stuck.problem is not None
    assert (stuck.problem.code, stuck.standing.is_complete, stuck.standing.row.is_open) == (
        "on_hold", True, True,
    )  # fmt: skip

    audit = room.alone.audit
    lift = await room.approvals.draft(
        ceremonies.draft_lifting(audit.policy, audit.origin, hold.id, "case closed"), PAUL, HERE
    )
    await room.approvals.sign(lift.row.id, room.privacy, PAUL, HERE)
    assert (await room.approvals.sign(lift.row.id, room.auditor, ADA, HERE)).receipt is not None
    done = await room.approvals.carry_out(made.row.id, PAUL, HERE)
    assert done.standing.row.outcome == "applied"
    assert shares.find(room.home, "user:key:citizen-17") == []


async def test_look_is_on_the_record_before_its_result(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells whether somebody is on the record; where it can not be recorded, it tells nothing."""
    seen = await room.approvals.foresee(erasure(room.alone), PAUL, HERE)
    assert (seen.num_shares, seen.num_records, seen.holds) == (1, 1, ())
    assert room.kinds()[-1] == "audit:searched"
    nobody = await room.approvals.foresee(erasure(room.alone, "nobody"), PAUL, HERE)
    assert (nobody.num_shares, nobody.num_records, nobody.first_month) == (0, 0, "")
    narrow = replace(erasure(room.alone), parameters={**erasure(room.alone).parameters, "until": "2001-01"})
    assert (await room.approvals.foresee(narrow, PAUL, HERE)).num_shares == 0

    async def latched(_entry: object) -> None:
        raise AuditUnavailable("the log is closed")

    monkeypatch.setattr(room.alone.audit, "append", latched)
    with pytest.raises(AuditUnavailable):
        await room.approvals.foresee(erasure(room.alone), PAUL, HERE)


async def test_change_of_the_policy_overtakes_open_acts(room: Room) -> None:
    """Who decides is somebody else now: an act under the policy before is told so, and only withdrawn."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    draft = with_member(room.alone.audit.policy, room.alone.audit.origin, Identity.generate("bob"))
    await room.alone.custody.change_policy(signed(draft, room.auditor))

    assert "another key policy" in room.approvals.get(made.row.id).problem
    assert await code_of(room.approvals.sign(made.row.id, room.privacy, PAUL, HERE)) == "act_overtaken"
    again = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    assert again.row.id != made.row.id
    assert (await room.approvals.withdraw(made.row.id, "overtaken", PAUL, HERE)).row.outcome == "withdrawn"


async def test_closed_acts_stay_closed(room: Room) -> None:
    """Nothing is signed, withdrawn or carried out twice; unknown ids and empty reasons are refused."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    assert await code_of(room.approvals.withdraw(made.row.id, " ", PAUL, HERE)) == "invalid_reason"
    assert await code_of(room.approvals.carry_out(made.row.id, PAUL, HERE)) == "act_incomplete"
    await room.approvals.withdraw(made.row.id, "a mistake", PAUL, HERE)
    for attempt in (
        room.approvals.sign(made.row.id, room.auditor, ADA, HERE),
        room.approvals.withdraw(made.row.id, "again", ADA, HERE),
        room.approvals.carry_out(made.row.id, ADA, HERE),
    ):
        assert await code_of(attempt) == "act_closed"
    assert await code_of(room.approvals.withdraw("nothing", "r", ADA, HERE)) == "not_found"


async def test_signatures_at_once_carry_an_act_out_once(room: Room) -> None:
    """Two who sign in the same moment, and one who clicks twice."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    results = await asyncio.gather(
        room.approvals.sign(made.row.id, room.privacy, PAUL, HERE),
        room.approvals.sign(made.row.id, room.auditor, ADA, HERE),
        room.approvals.sign(made.row.id, room.auditor, ADA, HERE),
        return_exceptions=True,
    )

    assert sum(isinstance(each, RequestError | Refused) for each in results) == 1
    assert room.kinds().count("content:erased") == 1
    assert room.approvals.get(made.row.id).row.num_signatures == 2


async def test_open_acts_are_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fills the list with drafts; the same draft is there once."""
    monkeypatch.setattr("appliance.approvals.MAX_OPEN", 2)
    assert MAX_OPEN >= 50
    await room.approvals.draft(erasure(room.alone, "a"), PAUL, HERE)
    assert await code_of(room.approvals.draft(erasure(room.alone, "a"), PAUL, HERE)) == "act_exists"
    await room.approvals.draft(erasure(room.alone, "b"), PAUL, HERE)
    assert await code_of(room.approvals.draft(erasure(room.alone, "c"), PAUL, HERE)) == "too_many_acts"


@pytest.mark.parametrize(
    "change",
    [
        {"since": "2026-5"}, {"since": "2026-13"}, {"since": "x"}, {"until": "2026-11-30"},
        {"since": "2026-06", "until": "2026-05"}, {"reason": " "}, {"basis": ""}, {"user": "", "key": ""},
        {"reason": "x" * 2001},
    ],
)  # fmt: skip
def test_erasures_that_say_too_little_are_not_drafted(room: Room, change: dict[str, str]) -> None:
    """Whose, why, by what right, from which month to which."""
    given = {"key": "", "user": "u", "since": "", "until": "", "reason": "r", "basis": "b"} | change
    with pytest.raises(RequestError) as refused:
        ceremonies.draft_erasure(room.alone.audit.policy, room.alone.audit.origin, **given)

    assert refused.value.code == "invalid_erasure"


async def test_who_did_it_is_found_by_their_account(room: Room) -> None:
    """Each step has its actor's blind index, and tells in sealed words who it was."""
    made = await room.approvals.draft(erasure(room.alone), PAUL, HERE)
    await room.approvals.sign(made.row.id, room.auditor, ADA, HERE)
    for who, kind in ((PAUL, Kind.ACT_DRAFTED), (ADA, Kind.ACT_SIGNED)):
        _, indexes = room.alone.custody.blinds({"key": who.key_id})
        with contextlib.closing(sqlite3.connect(room.home.database)) as connection:
            found = connection.execute("SELECT bi_key FROM log_entry WHERE kind = ?", [str(kind)]).fetchall()
        assert found == [(bytes.fromhex(indexes["key"]),)]
