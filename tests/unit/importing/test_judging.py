"""Chat templates from outside: what they name is looked at, then they render under the bounds of a worker."""

from __future__ import annotations

import pytest

from appliance.engine.worker import judging, templates
from appliance.engine.worker.objections import ObjectionError
from tests import hostile
from tests.dialects import transcripts

EVERY = dict(hostile.templates())


def judged(text: str, *, is_main: bool = True) -> list[str]:
    return judging.judge("tokenizer.chat_template", text, is_main=is_main, bos_text="<s>", eos_text="</s>")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes too long takes too long sooner."""
    monkeypatch.setattr(templates, "MAX_SECONDS", 0.3)


@pytest.mark.parametrize("text", EVERY.values(), ids=EVERY)
def test_a_hostile_template_is_not_taken(text: str) -> None:
    """It reaches into objects, includes others, takes too much, or takes no question: with a reason."""
    with pytest.raises(ObjectionError) as refused:
        judged(text)

    assert refused.value.code in {"hostile_template", "template_includes", "bad_template"}
    assert len(refused.value.reason.split()) > 3


def test_the_corpus_is_as_long_as_it_should_be() -> None:
    """The control of the table above."""
    assert len(EVERY) >= 120
    assert judged(hostile.TEMPLATE) == []


@pytest.mark.parametrize("text", sorted({each.template for each in transcripts()}))
def test_templates_in_the_manner_of_known_families_are_taken(text: str) -> None:
    """Tools, thoughts, raised exceptions and all."""
    assert judged(text) == []


def test_an_address_is_a_note() -> None:
    """A template may name one in its words; a person should know."""
    assert judged(hostile.TEMPLATE + "See https://example.net/x.") == [
        "tokenizer.chat_template names an address: https://example.net/x."
    ]


def test_a_template_beside_the_main_one_may_take_no_question() -> None:
    """One for tools or for ranking is written for something else; it may not be hostile."""
    assert judged("{{ tools[0].function.name }}", is_main=False) == []
    with pytest.raises(ObjectionError):
        judged("{{ ''.__class__ }}", is_main=False)
