"""The gate before an alias: what evaluations allow, and what only an admin's override goes past."""

from __future__ import annotations

import pytest

from appliance.core import Purpose
from appliance.policy.activation import Allow, Scored, decide, newest
from appliance.policy.admission import Refuse

CHAT = Purpose.CHAT


def scored(suite: str, score: int, *, floor: int = 900, at: int = 1, name: str = "") -> Scored:
    return Scored(name or f"{suite}-{at}", suite, score, floor, at)


def gate(*found: Scored, required: bool = False, overridden: bool = False) -> Allow | Refuse:
    return decide(CHAT, CHAT, found, is_required=required, is_overridden=overridden)


def test_at_its_floor_a_model_passes_and_below_it_does_not() -> None:
    """The floor itself is enough; a thousandth less is not, and the numbers are told."""
    assert gate(scored("tax", 900)) == Allow()
    refused = gate(scored("tax", 899))

    assert isinstance(refused, Refuse)
    assert (refused.code, refused.param) == ("below_floor", "model")
    assert "tax: 0.899, floor 0.900" in refused.reason


def test_of_each_suite_the_newest_counts_whatever_the_order() -> None:
    """A better day long ago helps nobody, and neither does another suite's good score."""
    early, late = scored("tax", 950, at=1), scored("tax", 100, at=2)

    assert isinstance(gate(late, early), Refuse)
    assert isinstance(gate(early, late), Refuse)
    assert gate(scored("tax", 100, at=1), scored("tax", 950, at=2)) == Allow()
    assert isinstance(gate(scored("tax", 950), scored("law", 100)), Refuse)
    assert [each.id for each in newest([late, scored("law", 1, at=9), early])] == ["law-9", "tax-2"]


def test_one_moment_has_one_newest() -> None:
    """Two evaluations of one microsecond are told apart by their ids: the answer never hangs on luck."""
    one, other = scored("tax", 950, name="a"), scored("tax", 100, name="b")

    assert gate(one, other) == gate(other, one)
    assert isinstance(gate(one, other), Refuse)


def test_without_an_evaluation_it_hangs_on_the_configuration() -> None:
    """A note where none is required; a refusal where one is."""
    allowed, refused = gate(), gate(required=True)

    assert isinstance(allowed, Allow)
    assert allowed.notes == ("this model was never evaluated",)
    assert allowed.overridden == ""
    assert isinstance(refused, Refuse)
    assert refused.code == "not_evaluated"


@pytest.mark.parametrize(
    ("found", "required", "said"),
    [((scored("tax", 1),), False, "below its floor"), ((), True, "never evaluated")],
)
def test_an_override_goes_past_and_says_what(found: tuple[Scored, ...], *, required: bool, said: str) -> None:
    """What was overridden is told, for the record; where nothing speaks against it, nothing is."""
    allowed = gate(*found, required=required, overridden=True)

    assert isinstance(allowed, Allow)
    assert said in allowed.overridden
    assert gate(scored("tax", 900), required=True, overridden=True) == Allow()


def test_an_alias_keeps_its_purpose() -> None:
    """Callers of a chat alias are not handed an embedding model, not even by an override."""
    refused = decide(Purpose.EMBEDDING, CHAT, (), is_required=False, is_overridden=True)
    adapter = decide(Purpose.ADAPTER, None, (), is_required=False, is_overridden=True)

    assert isinstance(refused, Refuse)
    assert isinstance(adapter, Refuse)
    assert (refused.code, adapter.code) == ("wrong_purpose", "wrong_purpose")
    assert isinstance(decide(Purpose.EMBEDDING, None, (), is_required=False, is_overridden=False), Allow)
