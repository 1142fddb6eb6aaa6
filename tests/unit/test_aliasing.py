"""Aliases move by the gate, by memory and by the record, and never halfway."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from appliance import config, performing
from appliance.alias_commands import ActivateAlias, Vouched
from appliance.aliasing import Moved, Wanted
from appliance.alone import Alone, open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.catalog import store_path
from appliance.commands import Answer, Done, Problem
from appliance.config import Home
from appliance.core import Principal, Purpose, Role
from appliance.errors import ApplianceError, AuditUnavailable, RequestError, SetupError, Unavailable
from appliance.models.cards import Pointed
from appliance.terms import Terms
from tests import ggufs, modelled
from tests.clocks import ManualClock
from tests.entered import OWN, person
from tests.fakes.loading import FakeLoading
from tests.ggufs import Weights
from tests.records import findings
from tests.slowness import quicken

STARTER = "smollm2-135m-instruct"
WHY = "a test"
LORA: Mapping[str, ggufs.Value] = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 8.0,
}


@pytest.fixture
def alone(home: Home, clock: ManualClock) -> Iterator[Alone]:
    with open_log_alone(home, config.load(home), clock) as opened:
        yield opened


async def take(alone: Alone, home: Home, name: str, data: bytes = b"", **changes: Any) -> Pointed:
    """A model in the store and on the record."""
    data = data or f"the bytes of {name}".encode()
    digest = hashlib.sha256(data).hexdigest()
    path = store_path(home, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    await alone.modelling.import_model(
        modelled.imported(name, sha256=digest, size_bytes=len(data), **changes)
    )
    return Pointed(name, digest)


async def activate(alone: Alone, model: str, **more: Any) -> Moved:
    given = {each: more.pop(each) for each in ("loading", "by") if each in more}
    return await alone.aliasing.activate(Wanted(model, WHY, **more), **given)


def stands_for(alone: Alone, name: str = "default") -> str:
    found = alone.modelling.catalog.resolve(name)
    return found.id if found is not None else ""


def said(home: Home, kind: Kind) -> list[dict[str, Any]]:
    """What entries of a kind say in plaintext, the first one first."""
    return [dict(each.public) for each in reversed(query.search(home.database, kind=kind, limit=100))]


async def test_an_activation_is_on_the_record_with_both_digests_and_survives(
    home: Home, clock: ManualClock
) -> None:
    """Who, when, why, from what to what; after another start the alias stands where it did."""
    ada = Principal("p_ada", "Ada Kim", Role.ADMIN)
    with open_log_alone(home, config.load(home), clock) as alone:
        starter = alone.modelling.catalog.resolve("default")
        assert starter is not None
        new = await take(alone, home, "newer")
        moved = await activate(alone, "newer", by=ada)
        assert stands_for(alone) == "newer"
    with open_log_alone(home, config.load(home), clock) as again:
        assert stands_for(again) == "newer"
        kept = again.modelling.register.alias("default")

    assert moved.receipt is not None
    assert kept == moved.alias
    assert (kept.changed_by, kept.why, kept.previous) == ("p_ada", WHY, (Pointed(STARTER, starter.sha256),))
    [entry] = said(home, Kind.ALIAS_ACTIVATED)
    assert (entry["alias"], entry["model_sha256"], entry["previous_model_sha256"], entry["override"]) == (
        "default", new.sha256, starter.sha256, 0,
    )  # fmt: skip
    assert findings(home) == []


async def test_the_model_is_loaded_before_the_alias_moves_and_held_until_it_has(
    alone: Alone, home: Home
) -> None:
    """At the moment of loading callers still get the one before; at the commit the other one is held."""
    await take(alone, home, "newer")
    fleet = FakeLoading(alone.modelling.catalog)
    at_commit: list[list[str]] = []
    genuine = alone.modelling.put_alias

    def watched(known: Any) -> None:
        at_commit.append(list(fleet.held))
        genuine(known)

    alone.modelling.put_alias = watched  # type: ignore[method-assign]
    await activate(alone, "newer", loading=fleet)

    assert fleet.seen == [("newer", STARTER)]
    assert at_commit == [["newer"]]
    assert (fleet.held, fleet.moves) == ([], ["newer"])


@pytest.mark.parametrize("act", ["activate", "roll back"])
async def test_what_does_not_load_changes_nothing(alone: Alone, home: Home, act: str) -> None:
    """The alias stays, and the record does not say otherwise."""
    await take(alone, home, "newer")
    if act == "roll back":
        await activate(alone, "newer")
    before, entries = stands_for(alone), query.search(home.database, limit=1)[0].seq

    with pytest.raises(Unavailable) as failed:
        if act == "activate":
            await activate(alone, "newer", loading=FakeLoading(alone.modelling.catalog, fails="load_failed"))
        else:
            await alone.aliasing.roll_back(
                "default", why=WHY, loading=FakeLoading(alone.modelling.catalog, fails="load_failed")
            )

    assert failed.value.code == "load_failed"
    assert stands_for(alone) == before
    assert query.search(home.database, limit=1)[0].seq == entries


async def test_without_a_gateway_the_file_is_read_instead(alone: Alone, home: Home) -> None:
    """An altered or missing file is found before the alias moves."""
    new = await take(alone, home, "newer")
    path = store_path(home, new.sha256)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ApplianceError) as altered:
        await activate(alone, "newer")
    path.unlink()
    with pytest.raises(SetupError) as missing:
        await activate(alone, "newer")

    assert (altered.value.code, missing.value.code) == ("model_altered", "model_missing")
    assert stands_for(alone) == STARTER


@pytest.mark.parametrize(("loaded", "code"), [("", "no_room_for_both"), ("newer", "adapter_not_loaded")])
async def test_what_makes_callers_wait_needs_a_word_that_they_may(
    alone: Alone, home: Home, loaded: str, code: str
) -> None:
    """Refused with what to do; with consent the alias moves first, and the model is loaded behind it."""
    await take(alone, home, "newer")
    fleet = FakeLoading(alone.modelling.catalog, has_room=False, loaded=loaded)
    with pytest.raises(RequestError) as refused:
        await activate(alone, "newer", loading=fleet)
    assert (refused.value.code, fleet.seen, fleet.moves) == (code, [], [])

    await activate(alone, "newer", loading=fleet, allow_gap=True)
    assert (fleet.seen, fleet.moves) == ([("newer", "newer")], ["newer"])

    await alone.aliasing.roll_back("default", why=WHY, allow_gap=True, loading=fleet)
    assert fleet.seen[1:] == [(STARTER, STARTER)]


async def test_after_a_gap_a_model_that_does_not_load_sends_the_alias_back(alone: Alone, home: Home) -> None:
    """Both moves are on the record, and a later rollback does not meet the one that failed."""
    await take(alone, home, "good")
    await take(alone, home, "bad")
    await activate(alone, "good")
    with pytest.raises(Unavailable):
        await activate(
            alone,
            "bad",
            loading=FakeLoading(alone.modelling.catalog, has_room=False, fails="load_failed"),
            allow_gap=True,
        )

    assert stands_for(alone) == "good"
    known = alone.modelling.register.alias("default")
    assert known is not None
    assert [each.model for each in known.previous] == [STARTER]
    assert known.why == "bad did not load: load_failed"
    assert [each["model"] for each in said(home, Kind.ALIAS_ROLLED_BACK)] == ["good"]
    assert findings(home) == []


async def test_rollback_goes_back_step_by_step_without_the_newer_file(alone: Alone, home: Home) -> None:
    """Each rollback is one command; what the alias leaves may be gone from the disk."""
    for name in ("second", "third"):
        new = await take(alone, home, name)
        await activate(alone, name)
    store_path(home, new.sha256).unlink()

    first = await alone.aliasing.roll_back("default", why=WHY)
    assert stands_for(alone) == "second"
    await alone.aliasing.roll_back("default", why=WHY)
    assert stands_for(alone) == STARTER
    with pytest.raises(RequestError) as over:
        await alone.aliasing.roll_back("default", why=WHY)

    assert over.value.code == "nothing_to_roll_back"
    assert first.before == new
    assert said(home, Kind.ALIAS_ROLLED_BACK)[0]["previous_model_sha256"] == new.sha256
    assert findings(home) == []


async def test_a_model_below_its_floor_needs_an_override_which_is_recorded(alone: Alone, home: Home) -> None:
    """The gate is asked with the evaluations of exactly this file."""
    new = await take(alone, home, "newer")
    await modelled.put_evaluation(alone, modelled.evaluation(modelled.imported("newer", sha256=new.sha256)))
    alone.modelling.relearn()
    with pytest.raises(RequestError) as refused:
        await activate(alone, "newer")
    assert refused.value.code == "below_floor"
    assert "--override" in refused.value.hint

    await activate(alone, "newer", override=True)
    assert [each["override"] for each in said(home, Kind.ALIAS_ACTIVATED)][-1] == 1
    assert stands_for(alone) == "newer"


async def test_where_the_configuration_wants_an_evaluation_none_is_not_enough(
    home: Home, clock: ManualClock
) -> None:
    """`models.require_evaluation` refuses what was never evaluated; without it there is a note."""
    settings = config.load(home)
    strict = msgspec.structs.replace(settings, models=config.Models(require_evaluation=True))
    with open_log_alone(home, strict, clock) as alone:
        await take(alone, home, "newer")
        with pytest.raises(RequestError) as refused:
            await activate(alone, "newer")
    with open_log_alone(home, settings, clock) as alone:
        moved = await activate(alone, "newer")

    assert refused.value.code == "not_evaluated"
    assert moved.notes == ("this model was never evaluated",)


async def test_an_alias_with_an_adapter_names_both(alone: Alone, home: Home) -> None:
    """Model, adapter, scale and both digests; what is no adapter is refused as one."""
    tensor = "blk.0.attn_v.weight"
    base = ggufs.make({**ggufs.SMALL, "general.name": "newer"}, [Weights(tensor, (32, 16))]).data
    halves = {"a": (32, 4), "b": (4, 16)}
    pair = [Weights(f"{tensor}.lora_{half}", shape) for half, shape in halves.items()]
    new = await take(alone, home, "newer", bytes(base))
    laid = await take(alone, home, "tone", bytes(ggufs.make(LORA, pair).data), purpose=Purpose.ADAPTER)
    wrong = [Weights(each.name, (64, 4) if each.name.endswith("a") else (4, 16)) for each in pair]
    await take(alone, home, "foreign", bytes(ggufs.make(LORA, wrong).data), purpose=Purpose.ADAPTER)
    await activate(alone, "newer", alias="letters", adapter="tone", scale=0.5)
    for bad in ({"adapter": STARTER}, {"adapter": "tone", "scale": 0.0}, {"adapter": "nothing"}):
        with pytest.raises(RequestError):
            await activate(alone, "newer", alias="letters", **bad)
    with pytest.raises(RequestError) as foreign:
        await activate(alone, "newer", alias="letters", adapter="foreign")
    with pytest.raises(RequestError) as alone_refused:
        await activate(alone, "tone", alias="letters")

    found = alone.modelling.catalog.resolve("letters")
    assert found is not None
    assert found.adapter is not None
    assert (found.id, found.adapter.id, found.adapter.scale) == ("newer", "tone", 0.5)
    [entry] = said(home, Kind.ALIAS_ACTIVATED)
    assert (entry["model_sha256"], entry["adapter_sha256"]) == (new.sha256, laid.sha256)
    assert (alone_refused.value.code, foreign.value.code) == ("wrong_purpose", "adapter_unfit")


async def test_pins_follow_the_alias_and_removed_ones_stand_for_nothing(alone: Alone, home: Home) -> None:
    """A pin survives a move; an alias that somebody's terms name is not taken away."""
    await take(alone, home, "newer")
    pinned = await alone.aliasing.pin("default", pinned=True, why=WHY)
    assert (pinned.alias.now.model, pinned.alias.pinned) == (STARTER, True)
    assert (await activate(alone, "newer")).alias.pinned
    assert (await alone.aliasing.pin("default", pinned=True, why=WHY)).receipt is None

    await activate(alone, "newer", alias="lobby")
    made = await alone.administration.create_key("screen", Role.KIOSK, terms=Terms(models=("lobby",)))
    for name in ("lobby", "default"):
        with pytest.raises(RequestError) as used:
            await alone.aliasing.remove(name, why=WHY)
        assert used.value.code == "alias_in_use"
    await alone.administration.revoke_key(made.new.key.id)
    await alone.aliasing.remove("lobby", why=WHY)

    assert alone.modelling.catalog.resolve("lobby") is None
    with pytest.raises(RequestError) as gone:
        await alone.aliasing.roll_back("lobby", why=WHY)
    assert gone.value.code == "alias_not_found"
    assert [each["change"] for each in said(home, Kind.ALIAS_CHANGED)] == ["pinned", "removed"]
    assert findings(home) == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"alias": STARTER}, "alias_taken"),
        ({"alias": "Lobby"}, "invalid_name"),
        ({"alias": "a" * 49}, "invalid_name"),
        ({"why": " "}, "invalid_reason"),
        ({"why": "two\nlines"}, "invalid_reason"),
        ({"why": "x" * 501}, "invalid_reason"),
        ({"model": "nothing"}, "model_not_found"),
        ({"model": "default"}, "model_not_found"),
    ],
)
async def test_what_can_not_be_meant_is_refused(alone: Alone, more: dict[str, Any], code: str) -> None:
    """Names that are models', reasons that say nothing, models that are not here; nothing is recorded."""
    with pytest.raises(RequestError) as refused:
        await alone.aliasing.activate(Wanted(**{"model": STARTER, "why": WHY} | more))

    assert refused.value.code == code


async def test_the_same_again_is_no_act(alone: Alone, home: Home) -> None:
    """Said twice it stands once on the record, and a rollback does not go to itself."""
    await take(alone, home, "newer")
    await activate(alone, "newer")
    again = await activate(alone, "newer")

    assert (again.receipt, again.notes) == (None, ("the alias stands for this model already",))
    assert len(said(home, Kind.ALIAS_ACTIVATED)) == 1
    await alone.aliasing.roll_back("default", why=WHY)
    assert stands_for(alone) == STARTER


async def test_a_log_that_can_not_commit_moves_nothing(
    alone: Alone, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue learns behind the commit, never before."""
    await take(alone, home, "newer")

    async def broken(_entry: object) -> None:
        raise AuditUnavailable("the audit log can not commit")

    monkeypatch.setattr(alone.audit, "append", broken)
    with pytest.raises(AuditUnavailable):
        await activate(alone, "newer")

    assert stands_for(alone) == STARTER
    assert alone.modelling.register.alias("default") is None


async def test_only_an_admin_who_proves_it_overrides(
    alone: Alone, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody, an operator and a wrong passphrase do not; the record names the admin who did."""
    quicken(monkeypatch)
    new = await take(alone, home, "newer")
    await modelled.put_evaluation(alone, modelled.evaluation(modelled.imported("newer", sha256=new.sha256)))
    alone.modelling.relearn()
    admin = await person(alone, "Ada Kim", Role.ADMIN)
    await person(alone, "Bo Lund", Role.OPERATOR)

    async def override(by: Vouched | None) -> Answer:
        asked = ActivateAlias(model="newer", alias="default", why=WHY, override=True, by=by)
        return await performing.perform(asked, alone)

    refusals = [
        await override(None),
        await override(Vouched(account="Bo Lund", passphrase=OWN)),
        await override(Vouched(account="Ada Kim", passphrase="four other words here")),
    ]
    assert stands_for(alone) == STARTER
    done = await override(Vouched(account="Ada Kim", passphrase=OWN))

    codes = [each.code for each in refusals if isinstance(each, Problem)]
    assert codes == ["account_needed", "permission_denied", "invalid_login"]
    assert isinstance(done, Done)
    assert said(home, Kind.ALIAS_ACTIVATED)[0]["override"] == 1
    known = alone.modelling.register.alias("default")
    assert known is not None
    assert known.changed_by == admin.id
    assert OWN not in repr(ActivateAlias(model="m", alias="a", why=WHY, by=Vouched("Ada Kim", OWN)))
