"""Biases, log-probabilities and texts to go on from, by the starter model itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from appliance.engine.messages import Delta, Generate, Logprob
from appliance.engine.question import Sampling
from appliance.engine.worker.llama import LlamaBackend
from appliance.engine.worker.sequence import Sequence
from tests.integration.real import Bench, last_logits, vary

pytestmark = pytest.mark.model

TEXT = "The capital of France is"
GREEDY = vary(max_tokens=6)
RANDOM = vary(max_tokens=6, temperature=0.8, seed=7)
PENALISED = vary(max_tokens=6, frequency_penalty=0.5)


def go_on(
    backend: LlamaBackend, sampling: Sampling, *, prompt: str | tuple[int, ...] = TEXT, schema: str = ""
) -> tuple[str, list[int], tuple[Logprob, ...]]:
    """What the model makes of a text: the text, the tokens, and what they weighed."""
    bench = Bench(backend)
    sequence = bench.preparer.prepare(Generate("one", (), sampling, schema=schema, prompt=prompt))
    assert isinstance(sequence, Sequence)
    bench.core.add(sequence)
    text = bench.answers()["one"]
    weighed = tuple(each for said in bench.said if isinstance(said, Delta) for each in said.logprobs)
    return text, sequence.output, weighed


@pytest.mark.parametrize("sampling", [GREEDY, RANDOM, PENALISED], ids=["greedy", "random", "penalised"])
def test_a_bias_bans_and_forces(backend: LlamaBackend, sampling: Sampling) -> None:
    """In the chain of the library as in our own argmax, with and without a schema's mask."""
    _, plain, _ = go_on(backend, sampling)
    fields = {name: getattr(sampling, name) for name in sampling.__struct_fields__}
    banned = Sampling(**fields | {"logit_bias": tuple((token, -100.0) for token in set(plain))})
    _, other, _ = go_on(backend, banned)
    forced = Sampling(**fields | {"logit_bias": ((plain[0], 100.0),)})
    _, same, _ = go_on(backend, forced)
    (no,) = backend.tokenize("no", parse_special=False, add_bos=False)
    wanted = Sampling(**fields | {"logit_bias": ((no, 100.0),)})
    text, _, _ = go_on(backend, wanted, schema='{"enum": ["yes", "no", "perhaps"]}')

    assert not set(other) & set(plain)
    assert same == [plain[0]] * 6
    assert text == '"no"'


def test_weights_are_those_of_the_logits(backend: LlamaBackend) -> None:
    """What is told of the first token is the log-softmax of the row behind the prompt."""
    _, tokens, weighed = go_on(backend, vary(max_tokens=4, top_logprobs=20, temperature=0.9, seed=3))
    prompt = backend.tokenize(TEXT, parse_special=False, add_bos=backend.model.adds_bos)
    logits = last_logits(backend, [prompt])[0].astype(np.float64)
    expected = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
    first = weighed[0]

    assert len(weighed) == len(tokens) == 4
    assert first.logprob == pytest.approx(expected[tokens[0]], abs=0.05)
    best = [backend.spell(int(token)) for token in np.argsort(-expected)[:3]]
    assert [token for token, _ in first.top[:3]] == best
    for each in weighed:
        values = [value for _, value in each.top]
        assert values == sorted(values, reverse=True)


def test_texts_and_their_tokens_are_the_same_prompt(backend: LlamaBackend) -> None:
    """A text is gone on from as its tokens are, and nothing at all is gone on from, too."""
    tokens = tuple(backend.tokenize(TEXT, parse_special=False, add_bos=backend.model.adds_bos))
    text, written, _ = go_on(backend, GREEDY)

    assert go_on(backend, GREEDY, prompt=tokens)[:2] == (text, written)
    assert go_on(backend, vary(max_tokens=3, temperature=1.0, seed=1), prompt="")[1]
