"""The ceremony after a restored backup: who may begin it, what it leaves, and crashes at every step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance import anew, config, db, durable
from appliance.alone import open_log_alone
from appliance.audit import acts, lineage, query, restoration
from appliance.audit.acts import SignedAct
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity
from appliance.audit.sequencer import Sequencer
from appliance.cli.verifying import second_reading
from appliance.config import Home
from appliance.errors import ApplianceError, RequestError, SetupError, VerificationError
from appliance.state import CARRIED_TABLES, STATE_TABLES
from tests.acts import dev_auditor, signed
from tests.clocks import ManualClock
from tests.records import assert_verified
from tests.restored import agreed, begin, content_of, drafted, renamed, said, set_back, with_past


class Crash(BaseException):
    """Not an error that anything handles: the process is gone."""


def test_next_origin() -> None:
    """The number is counted up; a name without one gets 2."""
    assert restoration.next_origin("box/audit/1") == "box/audit/2"
    assert restoration.next_origin("box/audit/19") == "box/audit/20"
    assert restoration.next_origin("box") == "box/2"


async def test_log_begins_anew(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Closed until a quorum agreed; then a new log that commits to the old; keys and contents stay."""
    past = await with_past(home, clock, tmp_path)
    old_key = (home.keys / "log.ed25519").read_bytes()
    set_back(home, past)
    settings = config.load(home)
    with pytest.raises(SetupError) as closed, open_log_alone(home, settings, clock):
        pass
    assert (closed.value.code, "begin-anew" in closed.value.hint) == ("rolled_back", True)
    unsigned = SignedAct(drafted(home)).note()
    stranger = signed(drafted(home), Identity.generate("dev-auditor"))
    for note in (unsigned, stranger):
        with pytest.raises(VerificationError, match="0 valid signatures"):
            begin(home, clock, note)
    assert not home.ceremony.exists()

    begun = begin(home, clock, agreed(home))

    old = begun.archive / lineage.DATABASE_NAME
    assert begun.origin == restoration.next_origin(past.origin)
    with pytest.raises(SetupError) as misnamed, open_log_alone(home, settings, clock):
        pass
    assert (misnamed.value.code, f'origin = "{begun.origin}"' in misnamed.value.hint) == (
        "origin_changed",
        True,
    )
    renamed(home, past.origin, begun.origin)
    with open_log_alone(home, config.load(home), clock) as alone:
        assert [each.name for each in alone.directory.all()] == ["lobby"]
        assert [each.is_active for each in alone.custody.holds()] == [True]
        receipt = alone.audit.append_sync(said("canary-new"))
    (entry,) = query.search(home.database, kind=Kind.LOG_RESTORED)
    assert entry.public | {"old_root": "", "act_sha256": "", "head_sha256": ""} == {
        "old_origin": past.origin,
        "old_size": past.size,
        "lost_from": past.size,
        "lost_until": past.head_size,
        "num_open": 0,
        "num_approvers": 1,
        "old_root": "",
        "act_sha256": "",
        "head_sha256": "",
    }
    carried = query.search(home.database, kind=Kind.STATE_CARRIED)
    tables = sorted(str(each.public["row_table"]) for each in carried)
    assert tables == ["api_key", "legal_hold", "witness", "witness"]
    assert begun.num_carried == len(tables)
    assert {each.name for each in STATE_TABLES} - {each.name for each in CARRIED_TABLES} == {"cosignature"}
    assert_verified(home)
    report = second_reading(old, lineage.verifiers_of(home, old))
    assert (report.findings, report.root) == ([], entry.public["old_root"])
    assert content_of(home, old, past.kept_seq) == {"text": "canary-kept"}
    assert content_of(home, home.database, receipt.seq) == {"text": "canary-new"}
    assert lineage.verifiers_of(home, old) != lineage.verifiers_of(home, None)
    assert not any(old_key in path.read_bytes() for path in home.root.glob("**/*") if path.is_file())


async def test_receipts_of_the_old_log(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """A lost entry is called lost, an archived one is found, one that never was is neither."""
    past = await with_past(home, clock, tmp_path)
    set_back(home, past)
    begun = begin(home, clock, agreed(home))

    def code(receipt: str) -> str:
        with pytest.raises(RequestError) as refused:
            lineage.find(home, begun.origin, receipt)
        return refused.value.code

    assert code(f"{past.origin}/{past.lost_seq}") == "entry_lost"
    assert code(f"{past.origin}/{past.kept_seq}") == "entry_archived"
    assert code(f"{past.origin}/{past.head_size}") == "not_found"
    assert code("elsewhere/audit/1/3") == "not_found"
    assert lineage.find(home, begun.origin, f"{begun.origin}/7") == "7"
    assert lineage.find(home, begun.origin, "req_1") == "req_1"


async def test_only_what_was_agreed_to(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """A whole log goes on; another database, a changed act or a second time are refused."""
    past = await with_past(home, clock, tmp_path)
    with pytest.raises(RequestError) as whole:
        drafted(home)
    assert whole.value.code == "log_is_whole"
    present = home.database.read_bytes()
    set_back(home, past)
    note = agreed(home)
    home.database.write_bytes(present)
    with pytest.raises(VerificationError, match="draft it anew"):
        begin(home, clock, note)
    set_back(home, past)
    draft = acts.parse(note).draft
    bent = acts.Draft(draft.origin, draft.act, draft.policy_sha256, {**draft.parameters, "lost_until": 0})
    with pytest.raises(VerificationError, match="contradicts itself"):
        begin(home, clock, signed(bent, dev_auditor(home)))
    begin(home, clock, note)
    with pytest.raises(VerificationError):
        begin(home, clock, note)


async def test_lost_head_file(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Where nothing remembers the log's length, it may not go on either; what was lost is unknown."""
    past = await with_past(home, clock, tmp_path)
    home.head.unlink()
    begun = begin(home, clock, agreed(home))
    (entry,) = query.search(home.database, kind=Kind.LOG_RESTORED)
    assert (entry.public["head_sha256"], entry.public["lost_from"]) == ("", entry.public["lost_until"])
    renamed(home, past.origin, begun.origin)
    assert_verified(home)


def crashing(monkeypatch: pytest.MonkeyPatch, at: int, *, before: bool) -> list[str]:
    """Crash before or behind the n-th durable effect; the names of those that were reached."""
    reached: list[str] = []

    def watch(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def effect(*arguments: Any, **options: Any) -> Any:
            reached.append(name)
            number = len(reached)
            if before and number == at:
                raise Crash
            result = real(*arguments, **options)
            if not before and number == at:
                raise Crash
            return result

        monkeypatch.setattr(owner, name, effect)

    for owner, name in (
        (durable, "write_file"),
        (durable, "destroy"),
        (Path, "replace"),
        (Path, "unlink"),
        (db, "fold"),
        (db, "upgrade"),
        (Sequencer, "commit"),
    ):
        watch(owner, name)
    return reached


@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
async def test_crash_at_every_effect(
    home: Home, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, before: bool
) -> None:
    """Whatever was done already, applying the act again ends in the same world, and nobody serves between."""
    past = await with_past(home, clock, tmp_path)
    set_back(home, past)
    note = agreed(home)
    pristine = tmp_path / "pristine"
    shutil.copytree(home.root, pristine)
    num_crashes = 0
    for at in range(1, 200):
        if num_crashes:
            shutil.rmtree(home.root)
            shutil.copytree(pristine, home.root)
        with monkeypatch.context() as patched:
            reached = crashing(patched, at, before=before)
            try:
                begin(home, clock, note)
            except Crash:
                num_crashes += 1
        if len(reached) < at:
            break
        if home.ceremony.exists():
            with (
                pytest.raises(SetupError, match="half begun"),
                open_log_alone(home, config.load(home), clock),
            ):
                pass
            begin(home, clock, note)
        elif not (home.archive).exists():
            begin(home, clock, note)  # nothing had begun
        begun_origin = restoration.next_origin(past.origin)
        renamed(home, past.origin, begun_origin)
        with open_log_alone(home, config.load(home), clock) as alone:
            assert [each.name for each in alone.directory.all()] == ["lobby"], reached
        (place,) = home.archive.iterdir()
        old = place / lineage.DATABASE_NAME
        assert len(query.search(home.database, kind=Kind.LOG_RESTORED)) == 1
        assert content_of(home, old, past.kept_seq) == {"text": "canary-kept"}
        for path in (old, home.database):
            assert second_reading(path, lineage.verifiers_of(home, path)).findings == [], (at, reached)
        assert not list(home.keys.glob(f"{anew.NEXT}*"))
    assert num_crashes > 15


async def test_another_act_does_not_finish_it(
    home: Home, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the act that began a ceremony ends it."""
    past = await with_past(home, clock, tmp_path)
    set_back(home, past)
    first, second = agreed(home), signed(anew.draft(home, config.load(home), "why else"), dev_auditor(home))
    with monkeypatch.context() as patched:
        patched.setattr(anew, "change_key", lambda *_: (_ for _ in ()).throw(Crash()))
        with pytest.raises(Crash):
            begin(home, clock, first)
    with pytest.raises(ApplianceError, match="half carried out"):
        begin(home, clock, second)
    begin(home, clock, first)
