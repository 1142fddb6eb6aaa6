"""Reproducible answers through the whole appliance, and their replay from the record."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from appliance.cli import program as everything
from appliance.core import Finished, FinishReason, InferenceRequest, SamplingParams, Trace, Usage
from appliance.replay import Recorded, compare, replay
from tests.harness import Gateway, gateway, question
from tests.harness import appliance as program

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


SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("/v1/chat/completions", question("echo: word")),
    "stream": ("/v1/chat/completions", question("echo: several words", stream=True)),
    "tools": ("/v1/chat/completions", question("echo: word", tools=[TOOL])),
    "schema": ("/v1/chat/completions", question("x", response_format={
        "type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {
            **SCHEMA, "additionalProperties": False}}})),
    "bias": ("/v1/chat/completions", question("echo: word", logit_bias={"120": -100})),
    "logprobs": ("/v1/chat/completions", question("echo: word", logprobs=True, top_logprobs=2)),
    "prompt": ("/v1/completions", {"model": "default", "prompt": "echo: word", "max_tokens": 5}),
    "tokens": ("/v1/completions", {"model": "default", "prompt": [101, 102, 103], "max_tokens": 5}),
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("replay") / "home") as started:
        yield started


@pytest.mark.integration
@pytest.mark.parametrize("name", QUESTIONS)
def test_whatever_a_question_carries_is_replayed(
    running: Gateway, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools, schemas, raw prompts, biases: all that the answer depends on is on the record."""
    worker = [sys.executable, "-m", "tests.fakes.fake_worker"]
    monkeypatch.setattr("appliance.cli.replay.run_replay", functools.partial(replay, command=worker))
    path, body = QUESTIONS[name]
    with running.client() as client:
        answer = client.post(path, json=body | {"reproducible": True})
    assert answer.status_code == 200, answer.text
    request_id = answer.headers["x-request-id"]
    arguments = ["audit", "replay", request_id, "--home", str(running.home.root), "--json"]
    done = CliRunner().invoke(everything, arguments, catch_exceptions=False)

    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["identical"]
    assert result["num_tokens"] > 0


@pytest.mark.integration
def test_several_choices_are_not_reproducible(running: Gateway) -> None:
    """Each would need a setup and a trace of its own: refused before anything is on the record."""
    with running.client() as client:
        answer = client.post("/v1/chat/completions", json=question("x", n=2, reproducible=True))

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "n"


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
