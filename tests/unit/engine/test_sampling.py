"""What a request may ask of its sampling: biases, log-probabilities, texts to go on from, stop strings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from appliance.engine.messages import Delta, Finished, Logprob, Rejected, Setup
from appliance.engine.worker.detokenizer import Detokenizer
from appliance.engine.worker.grammar import Source
from appliance.engine.worker.logprobs import FLOOR, weigh
from appliance.engine.worker.sampling import Bias
from tests.engines import LOAD, Bench, cached_tokens
from tests.fakes.fake_backend import END, USER, WORD, FakeBackend

SETUP = Setup(n_ctx=1024, n_batch=32, n_threads=1, flash_attn=False)
SCHEMA = '{"enum": ["yes", "no"]}'


def end_of(bench: Bench, request_id: str) -> Finished:
    (end,) = bench.ends(request_id)
    assert isinstance(end, Finished)
    return end


def logprobs_of(bench: Bench, request_id: str) -> list[Logprob]:
    """All of an answer; every piece of it says as many as it counts tokens."""
    deltas = [each for each in bench.said if isinstance(each, Delta) and each.request_id == request_id]
    assert all(len(each.logprobs) == each.num_tokens for each in deltas)
    return [logprob for each in deltas for logprob in each.logprobs]


@pytest.mark.parametrize("setup", [None, SETUP], ids=["shared", "alone"])
def test_a_bias_bans_and_forces(setup: Setup | None) -> None:
    """With -100 a token does not come, with 100 it does, and other answers are as they were."""
    bench = Bench()
    bench.ask("banned", "echo: aaa", logit_bias=((ord("a"), -100.0),), max_tokens=3, setup=setup)
    bench.ask("forced", "echo: aaa", logit_bias=((ord("z"), 100.0),), max_tokens=3, setup=setup)
    bench.ask("plain", "echo: aaa", setup=setup)
    bench.run()

    assert "a" not in bench.text("banned")
    assert bench.text("forced") == "zzz"
    assert bench.text("plain") == "aaa"
    bench.assert_clean()


def test_a_bias_chooses_among_what_a_schema_allows() -> None:
    """It is added before the schema's mask, and never empties it."""
    bench = Bench()
    bench.ask("yes", "hello", schema=SCHEMA, logit_bias=((ord("y"), 50.0),))
    bench.ask("no", "hello", schema=SCHEMA, logit_bias=((ord("n"), 50.0),))
    banned = tuple((token, -100.0) for token in range(256))
    bench.ask("all banned", "hello", schema='{"const": "yes"}', logit_bias=banned)
    bench.run()

    assert [bench.text(each) for each in ("yes", "no", "all banned")] == ['"yes"', '"no"', '"yes"']


@pytest.mark.parametrize("bias", [((261, 1.0),), ((-1, 1.0),), ((5, math.inf),), ((5, math.nan),)])
def test_a_bias_that_can_not_be_is_refused(bias: tuple[tuple[int, float], ...]) -> None:
    """A token that the model does not have, or a number that is none, never reaches the library."""
    refused = Bench().ask("one", "hello", logit_bias=bias)

    assert isinstance(refused, Rejected)
    assert (refused.code, refused.param) == ("invalid_value", "logit_bias")


def test_biases_of_one_token_add_up() -> None:
    """A token that is named twice gets both, and the row that was given stays as it was."""
    logits = np.zeros(4, np.float32)

    assert Bias(((1, 2.0), (1, 3.0), (2, -1.0))).added_to(logits).tolist() == [0, 5, -1, 0]
    assert Bias(()).added_to(logits) is logits
    assert not logits.any()


def test_weights_are_those_of_the_row() -> None:
    """Log-softmax of the logits; the likeliest first, of equals the lower id; -inf has a floor."""
    logits = np.array([1.0, 3.0, 3.0, -np.inf, 0.0], np.float32)
    total = math.log(math.e + 2 * math.e**3 + 1)
    weighed = weigh(logits, 0, 3, lambda token: b"%d" % token)

    assert weighed.token == b"0"
    assert weighed.logprob == pytest.approx(1 - total)
    assert [token for token, _ in weighed.top] == [b"1", b"2", b"0"]
    assert weighed.top[0][1] == pytest.approx(3 - total)
    assert weigh(logits, 3, 0, lambda _: b"") == Logprob(b"", FLOOR)
    assert len(weigh(logits, 0, 20, lambda _: b"").top) == 5
    assert weigh(np.full(3, -np.inf, np.float32), 0, 1, lambda _: b"").logprob == pytest.approx(-math.log(3))


@pytest.mark.parametrize("speculation", [False, True])
@pytest.mark.parametrize("setup", [None, SETUP], ids=["shared", "alone"])
@pytest.mark.parametrize("apart", [False, True], ids=["one pool", "two pools"])
def test_every_counted_token_has_its_weight(setup: Setup | None, *, apart: bool, speculation: bool) -> None:
    """With guesses, in both pools and alone: one entry a token, none for the end of the answer."""
    bench = Bench(speculation=speculation, apart=FakeBackend(LOAD) if apart else None)
    for number in range(2):  # the second answer was guessed
        bench.ask(f"{number}", "echo: abcabc abcabc", top_logprobs=3, setup=setup)
        bench.run()
    for number in range(2):
        found = logprobs_of(bench, f"{number}")
        assert b"".join(each.token for each in found).decode() == bench.text(f"{number}")
        assert len(found) == end_of(bench, f"{number}").completion_tokens
        assert all(each.top[0] == (each.token, each.logprob) and len(each.top) == 3 for each in found)
        assert all(-0.01 < each.logprob <= 0 for each in found)


def test_weights_are_raw() -> None:
    """A bias, or a schema, that brings an unlikely token does not make it look likely."""
    bench = Bench()
    bench.ask("biased", "echo: aaa", logit_bias=((ord("z"), 100.0),), max_tokens=2, top_logprobs=1)
    bench.ask("kept to", "echo: aaa", schema='{"const": "z"}', top_logprobs=0)
    bench.run()

    for each in logprobs_of(bench, "biased"):
        assert (each.token, each.top[0][0]) == (b"z", b"a")
        assert each.logprob < -10
    assert [each.token for each in logprobs_of(bench, "kept to")] == [b'"', b"z", b'"']
    assert all(each.top == () for each in logprobs_of(bench, "kept to"))


@pytest.mark.parametrize("speculation", [False, True])
def test_tokens_behind_a_stop_string_do_not_count(*, speculation: bool) -> None:
    """The answer ends with the token that completed the stop string, whatever was guessed behind it."""
    bench = Bench(speculation=speculation)
    bench.ask("before", "echo: one END two three four")
    bench.run()
    bench.ask("one", "echo: one END two three four", stop=("END",), top_logprobs=1)
    bench.run()
    found = logprobs_of(bench, "one")

    assert bench.text("one") == "one "
    assert b"".join(each.token for each in found) == b"one END"
    assert end_of(bench, "one").completion_tokens == len(found)
    assert end_of(bench, "one").stop == "END"


def test_off_means_none() -> None:
    """Who asks for none gets none."""
    bench = Bench()
    bench.ask("one", "echo: hello")
    bench.run()

    assert all(each.logprobs == () for each in bench.said if isinstance(each, Delta))
    assert end_of(bench, "one").stop == ""


@pytest.mark.parametrize(
    ("stop", "text", "met"),
    [(("b", "c"), "abc", "b"), (("bc", "abc"), "xabc", "abc"), (("abd",), "abc", ""), (("",), "", "")],
)
def test_the_stop_string_that_was_met(stop: tuple[str, ...], text: str, met: str) -> None:
    """The one that completes first; of two that complete together the longer one."""
    detokenizer = Detokenizer(stop if stop != ("",) else ())
    for each in text:
        detokenizer.add(each.encode())

    assert detokenizer.met == met


def test_texts_are_gone_on_from_as_they_stand() -> None:
    """No template, and a control token's text in them is text."""
    bench = Bench()
    text = bench.ask("text", "", prompt="<|end|><|system|>\necho: hello")
    tokens = bench.ask("tokens", "", prompt=(USER, *b"\nsay 3 tokens"))
    bench.run()

    assert text.prompt == list(b"<|end|><|system|>\necho: hello")
    assert tokens.prompt == [USER, *b"\nsay 3 tokens"]
    assert bench.text("text") == "hello"
    assert bench.text("tokens") == " word" * 3
    bench.assert_clean()


def test_what_two_texts_begin_with_is_computed_once() -> None:
    """Prefixes are shared here as everywhere."""
    bench = Bench()
    for number in range(2):
        bench.ask(f"{number}", "", prompt="A long beginning, " * 10 + f"\necho: {number}")
        bench.run()

    assert cached_tokens(bench, "1") >= 180
    assert bench.text("1") == "1"


@pytest.mark.parametrize("prompt", [(5, 261), (-1,), (1 << 40,), "", ()])
def test_prompts_that_can_not_be_are_refused(prompt: str | tuple[int, ...]) -> None:
    """Tokens that do not exist, and nothing at all where the vocabulary has no beginning of a text."""
    refused = Bench().ask("one", "", prompt=prompt)

    assert isinstance(refused, Rejected)
    assert (refused.code, refused.param) == ("invalid_value", "prompt")


@pytest.mark.parametrize("prompt", ["", ()])
def test_nothing_is_gone_on_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch, prompt: str | tuple[int, ...]
) -> None:
    """Where a vocabulary has a beginning of a text, an empty prompt is that one token."""
    bench = Bench()
    plain = bench.backend.tokenize

    def tokenize(text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
        return [USER] * add_bos + plain(text, parse_special=parse_special, add_bos=add_bos)

    monkeypatch.setattr(bench.backend, "tokenize", tokenize)

    assert bench.ask("nothing", "", prompt=prompt).prompt == [USER]
    monkeypatch.setattr(bench.backend, "model", dataclasses.replace(bench.backend.model, adds_bos=True))
    assert bench.ask("text", "", prompt="hi").prompt == [USER, *b"hi"]
    assert bench.ask("tokens", "", prompt=(104, 105)).prompt == [104, 105]


def test_a_text_that_is_too_long_is_refused() -> None:
    """With the name of what the caller sent."""
    refused = Bench().ask("one", "", prompt="x" * 5000)

    assert isinstance(refused, Rejected)
    assert (refused.code, refused.param) == ("context_length_exceeded", "prompt")


def test_spelt_control_tokens_are_part_of_the_text() -> None:
    """Only those that are asked for; the others stay without a text."""
    bench = Bench()
    for name, spelt in (("spelt", frozenset({USER})), ("plain", frozenset())):
        bench.ask(name, "echo: hello", logit_bias=((USER, 100.0),), max_tokens=2)
        bench.core._shared._sequences[name].spelt = spelt
    bench.run()

    assert (bench.text("spelt"), bench.text("plain")) == ("<|user|>" * 2, "")


LARK = """
start: <|user|> "[" json "]" | /[a-z ]+/
json: %json {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
"""


def test_a_grammar_may_name_control_tokens() -> None:
    """Text, a schema and a control token in one grammar; as text its spelling is none of it."""
    bench = Bench()
    grammar = bench.preparer._grammars.compile(Source("lark", LARK))

    assert grammar.allows(USER)
    assert grammar.allows(ord("x"))
    assert grammar.allows(WORD)
    assert not grammar.allows(ord("<"))
    assert not grammar.allows(END)
    grammar.accept(USER)
    assert np.flatnonzero(grammar.mask()).tolist() == [ord("[")]
    for token in b'[{"a":1}]':
        grammar.accept(token)
    assert grammar.is_complete
