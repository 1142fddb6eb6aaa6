"""Terms as JSON: one form for good, and nothing in it that is not understood."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from appliance.accounts import terms_form
from appliance.accounts.terms_form import LIMIT_NAMES, NAMES, LimitsForm, TermsForm
from appliance.errors import RequestError, VerificationError
from appliance.terms import Capture, Endpoint, Limits, Terms

GOLDEN = Path(__file__).parents[2] / "vectors" / "terms" / "key-1.json"
EVERYTHING = Terms(
    models=("default", "smollm2-135m-instruct"),
    endpoints=(Endpoint.CHAT, Endpoint.EMBEDDINGS),
    addresses=("10.1.0.0/16", "fd00::/8"),
    capture=Capture.METADATA,
    capture_basis="Works agreement 7, approved by the data protection officer",
    prompt="counter@2",
    guardrails="public@3",
    prefix_profile="lobby",
    certificates=("5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",),
    limits=Limits(
        requests_per_minute=60,
        tokens_per_minute=20_000,
        concurrency=4,
        requests_per_day=5000,
        tokens_per_day=2_000_000,
        priority=2,
    ),
)


def test_what_was_stored_by_this_release_reads_the_same_for_good() -> None:
    """The golden file is what these terms are, to the byte, and back."""
    golden = GOLDEN.read_text().strip()

    assert terms_form.dumps(EVERYTHING) == golden
    assert terms_form.loads(golden, key_id="a") == EVERYTHING


def test_no_term_is_forgotten_by_the_form() -> None:
    """A field that terms have and their form has not would be lost at the next start."""
    assert set(TermsForm.__struct_fields__) == {each.name for each in dataclasses.fields(Terms)}
    assert set(LimitsForm.__struct_fields__) == {each.name for each in dataclasses.fields(Limits)}
    said = {each.name: getattr(EVERYTHING, each.name) for each in dataclasses.fields(Terms)}
    assert [name for name, value in said.items() if value == getattr(Terms(), name)] == []


def test_terms_of_no_restriction_say_nothing() -> None:
    """A term that a later release adds changes no form of before."""
    assert terms_form.dumps(Terms()) == '{"version":1}'
    assert terms_form.plain(Terms()) == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"modells": ["a"]},
        {"limits": {"per_minute": 3}},
        {"version": 2},
        {"version": None},
        {"endpoints": ["telepathy"]},
        {"addresses": ["10.1.0.1/16"]},
        {"capture": "metadata"},
        {"capture_basis": "why not"},
        {"limits": {"concurrency": 0}},
        {"certificates": ["AB"]},
    ],
)
def test_stored_terms_that_are_not_understood_open_nothing(changed: dict[str, object]) -> None:
    """An unknown field, version or value is an error that names the key, and not what stands there."""
    text = json.dumps({"version": 1, **changed})

    with pytest.raises(VerificationError) as refused:
        terms_form.loads(text, key_id="abcdefghij")

    assert refused.value.code == "bad_key_terms"
    assert "abcdefghij" in refused.value.message
    assert "modells" not in refused.value.message


def test_what_is_named_changes_and_everything_else_stays() -> None:
    """One limit and the models are other ones; the rest is as it was."""
    named = TermsForm(models=("other",), limits=LimitsForm(priority=9))

    changed = terms_form.amended(EVERYTHING, named, [])

    limits = dataclasses.replace(EVERYTHING.limits, priority=9)
    assert changed == dataclasses.replace(EVERYTHING, models=("other",), limits=limits)


@pytest.mark.parametrize("name", [*NAMES, *LIMIT_NAMES])
def test_each_term_can_be_taken_back_by_itself(name: str) -> None:
    """It is as by default then; a ground for keeping no words goes with the words' return."""
    changed = terms_form.plain(terms_form.amended(EVERYTHING, TermsForm(), [name]))

    before = terms_form.plain(EVERYTHING)
    kept = {**before, **before["limits"]}
    left = {**changed, **changed["limits"]}
    gone = {"capture", "capture_basis"} if name == "capture" else {name}
    assert kept.keys() - left.keys() == gone
    assert all(left[each] == kept[each] for each in left if each != "limits")


def test_a_term_that_nobody_knows_is_not_taken_back() -> None:
    """A mistyped name must not look as if it had done something."""
    with pytest.raises(RequestError) as refused:
        terms_form.amended(EVERYTHING, TermsForm(), ["modells"])

    assert refused.value.code == "invalid_terms"
