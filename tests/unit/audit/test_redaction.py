"""Redaction: what is named is gone, also across pieces; what is not known is not shown; marks say why."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import redaction
from appliance.audit.redaction import MARK, PARTS, Part, Redaction
from appliance.errors import RequestError, VerificationError

REASON = "personal data"
CONTENT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "where does Ann Smith live?"}],
    "sampling": {"temperature": "1.0", "seed": 4711, "stop": ["Smith"]},
    "annotations": {"user": "citizen-17", "metadata": {"Smith": "x", "n": 4711}},
    "principal": {"key_id": "k", "name": "desk", "role": "kiosk"},
    "caller": {"address": "192.0.2.7", "user_agent": "x"},
}


def redacted(
    content: dict[str, Any], parts: set[Part] | None = None, words: tuple[str, ...] = ()
) -> dict[str, Any]:
    redact = Redaction(frozenset(parts or ()), words, REASON)
    data = redaction.redact([(7, "req", "00", content)], redact)[7]
    redaction.check(data, 7, "00")
    told: dict[str, Any] = json.loads(data)
    return told


@pytest.mark.parametrize("part", list(Part))
def test_a_part_is_withheld_whole(part: Part) -> None:
    """Each of its fields is a mark, and each mark says why; the other parts stay."""
    told = redacted({**CONTENT, "text": "at home", "tokens": [1], "logits": "00"}, {part})
    for name, value in told["content"].items():
        if PARTS[name] is part:
            assert value == MARK
            assert {"at": f"/{name}", "reason": REASON} in told["withheld"]
        elif name != "sampling":
            assert value == {**CONTENT, "text": "at home", "tokens": [1], "logits": "00"}[name]
    assert (told["content"]["sampling"]["stop"] == MARK) is (part is Part.QUESTION)


def test_words_are_withheld_wherever_they_stand() -> None:
    """In text, in names of fields, in numbers, in capital letters, composed or decomposed."""
    told = redacted({**CONTENT, "text": "SMITH and M\u00fcller"}, words=("smith", "4711", "Mu\u0308ller"))
    shown = json.dumps(told, ensure_ascii=False).lower()
    assert not any(word in shown for word in ("smith", "4711", "m\u00fcller", "mu\u0308ller"))
    assert told["content"]["messages"][0]["content"] == f"where does Ann {MARK} live?"
    assert told["content"]["text"] == f"{MARK} and {MARK}"
    assert all(each["reason"] == REASON for each in told["withheld"])


def test_numbers_of_an_answer_do_not_give_it_away() -> None:
    """Token ids and logits say the answer again: with words they go whole."""
    told = redacted({"output": "Smith", "tokens": [5, 6], "logits": "00 11"}, words=("Smith",))
    assert told["content"] == {"output": MARK, "tokens": MARK, "logits": MARK}


def test_unknown_fields_are_not_shown() -> None:
    """What another release records, or another kind of entry, is withheld until it is known."""
    told = redacted({"future": {"a": "secret"}, "text": "x"}, {Part.WHO})
    assert told["content"] == {"future": MARK, "text": "x"}
    assert "does not know" in told["withheld"][0]["reason"]


def test_words_across_pieces_of_several_answers() -> None:
    """Each choice is a stream of its own; its log-probabilities, the answer once more, go whole."""
    records: list[tuple[int, str, str, dict[str, Any]]] = [
        (1, "req", "00", {"text": "Smi"}),
        (2, "req", "00", {"text": "Jo", "choice": 1}),
        (3, "req", "00", {"output": "th.", "outputs": [{"text": "nes", "choice": 1, "logprobs": [["n"]]}]}),
    ]
    left = redaction.redact(records, Redaction(frozenset(), ("smith", "jones"), REASON))
    shown = [json.loads(left[seq])["content"] for seq in (1, 2, 3)]

    assert shown == [
        {"text": MARK},
        {"text": MARK, "choice": 1},
        {"output": f"{MARK}.", "outputs": [{"text": MARK, "choice": 1, "logprobs": MARK}]},
    ]


def test_token_ids_are_withheld_where_words_are() -> None:
    """Nobody can look for a word in numbers: prompts in tokens and biases go whole, texts stay readable."""
    content = {
        "prompts": ["by Smith", [5, 6]],
        "sampling": {"stop": [], "logit_bias": [[5, "1.0"]], "top_k": 4},
    }
    told = redacted(content, words=("Smith",))["content"]

    assert told["prompts"] == [f"by {MARK}", MARK]
    assert told["sampling"] == {"stop": [], "logit_bias": MARK, "top_k": 4}


@given(
    st.text(alphabet="abcxyz ", max_size=12),
    st.text(alphabet="abcxyz ", max_size=12),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_a_word_across_pieces_is_found(before: str, after: str, cuts: list[int]) -> None:
    """However a stream is cut, nothing of the word is left in the answer that is put together again."""
    text = before + "SECRETWORD" + after
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[one:other] for one, other in itertools.pairwise(places)]
    records = [(seq, "req", "00", {"text": piece}) for seq, piece in enumerate(pieces)]
    left = redaction.redact(records, Redaction(frozenset(), ("secretword",), REASON))
    joined = "".join(json.loads(left[seq])["content"]["text"] for seq, *_ in records)

    assert joined.replace(MARK, "") == before + after
    assert joined.count(MARK) >= 1


@pytest.mark.parametrize(
    ("parts", "words", "reason"),
    [(set(), (), REASON), ({Part.WHO}, (), ""), ({Part.WHO}, (), "a\nb"), (set(), ("a",), REASON),
     (set(), ("x" * 201,), REASON), (set(), ("word",) * 101, REASON), (set(), ("   ",), REASON)],
)  # fmt: skip
def test_a_redaction_says_what_and_why(parts: set[Part], words: tuple[str, ...], reason: str) -> None:
    """Nothing to withhold, no reason, a word of one letter: refused."""
    with pytest.raises(RequestError) as caught:
        Redaction(frozenset(parts), words, reason)
    assert caught.value.code == "invalid_redaction"


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_anything_else_is_refused(data: bytes) -> None:
    """Bytes that are no redacted content raise one kind of error."""
    with pytest.raises(VerificationError):
        redaction.check(data, 1, "00")


def test_another_form_or_record_is_refused() -> None:
    """White space, another seq, another ciphertext, a content that is no object."""
    data = redaction.redact([(7, "r", "00", {"text": "x"})], Redaction(frozenset({Part.WHO}), (), REASON))[7]
    for changed, seq, sha256 in (
        (data + b" ", 7, "00"), (data, 8, "00"), (data, 7, "01"),
        (data.replace(b'{"text":"x"}', b'"x"'), 7, "00"), (b"[" * 100_000, 7, "00"),
    ):  # fmt: skip
        with pytest.raises(VerificationError):
            redaction.check(changed, seq, sha256)
