"""Reproducible answers through the whole appliance, and their replay from the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.core import Finished, FinishReason, InferenceRequest, SamplingParams, Trace, Usage
from appliance.replay import Recorded, compare
from tests.harness import appliance as program
from tests.harness import gateway

TRACE = Trace(tokens=(1, 2, 3), digests=("a", "b", "c", "d"))


def recorded(**changes: Any) -> Recorded:
    request = InferenceRequest("req", "model", (), SamplingParams())
    fields: dict[str, Any] = {"seq": 3, "model_sha256": "", "request": request, "text": "abc", "trace": TRACE}
    return Recorded(**(fields | changes))


def now(tokens: tuple[int, ...] = TRACE.tokens, digests: tuple[str, ...] = TRACE.digests) -> Finished:
    return Finished(FinishReason.STOP, Usage(), trace=Trace(tokens, digests))


def test_the_first_difference_is_named() -> None:
    """Tokens, logits and text are compared each by itself."""
    same = compare(recorded(), "abc", now())
    logits = compare(recorded(), "abc", now(digests=("a", "x", "c", "d")))
    tokens = compare(recorded(), "axc", now(tokens=(1, 9, 3)))
    longer = compare(recorded(), "abcd", now(tokens=(1, 2, 3, 4)))

    assert same.identical
    assert (logits.identical, logits.first_token, logits.first_logits) == (False, None, 1)
    assert (tokens.first_token, tokens.recorded, tokens.replayed) == (1, "bc", "xc")
    assert (longer.identical, longer.first_token) == (False, 3)


def test_an_answer_that_was_cut_short_must_be_the_beginning() -> None:
    """Where the caller left, the record holds a part: the replay must begin with it."""
    part = recorded(outcome="client_gone", text="ab", trace=Trace((1, 2), ("a", "b")))

    assert compare(part, "abc", now()).identical
    assert not compare(part, "xbc", now(tokens=(7, 2, 3))).identical


@pytest.mark.model
def test_replay_from_the_record(tmp_path: Path) -> None:
    """A drawn answer is computed again bit by bit beside other answers; an altered record is told apart."""
    body: dict[str, Any] = {
        "model": "default",
        "messages": [{"role": "user", "content": "Tell me about a lighthouse."}],
        "max_tokens": 20,
        "temperature": 0.9,
        "reproducible": True,
    }
    with gateway(tmp_path / "home", worker="model") as running, running.client() as client:
        answers = [client.post("/v1/chat/completions", json=body | {"seed": 7}) for _ in range(2)]
        drawn = client.post("/v1/chat/completions", json=body)
        plain = client.post("/v1/chat/completions", json=body | {"reproducible": False})
    texts = [each.json()["choices"][0]["message"]["content"] for each in answers]
    assert texts[0] == texts[1]

    replayed = program("audit", "replay", drawn.headers["x-request-id"], "--json", home=running.home)
    result = json.loads(replayed.stdout)
    assert result["identical"]
    assert result["num_tokens"] in {19, 20}
    refused = program("audit", "replay", plain.headers["x-request-id"], home=running.home, check=False)
    assert refused.returncode != 0
    assert "reproducible" in refused.stderr
    kinds = program("audit", "search", "--json", home=running.home).stdout
    assert '"audit:replayed"' in kinds
    assert program("audit", "verify", home=running.home).returncode == 0
