"""What the record's readers tell of exchanges with tools, several answers, prompts and log-probabilities."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core import Role
from tests.harness import Gateway, appliance, gateway

pytestmark = pytest.mark.integration
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "of a place", "parameters": {"type": "object"}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at":"Oslo"}'}}
CHAT: dict[str, Any] = {
    "model": "default",
    "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "user", "content": "echo: it rains"},
    ],
    "tools": [TOOL],
    "n": 2,
    "logprobs": True,
}
PROMPTS: dict[str, Any] = {"model": "default", "prompt": ["echo: north", "echo: south"], "max_tokens": 20}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("readers") / "home") as started:
        yield started


@pytest.fixture(scope="module", params=[True, False], ids=["stream", "whole"])
def chat(running: Gateway, request: pytest.FixtureRequest) -> str:
    return ask(running, "/v1/chat/completions", CHAT | {"stream": request.param})


def ask(running: Gateway, path: str, body: dict[str, Any]) -> str:
    with running.client() as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def show(running: Gateway, request_id: str, *options: str) -> str:
    return appliance("audit", "show", request_id, *options, home=running.home).stdout


def test_show_tells_a_conversation_with_tools(running: Gateway, chat: str) -> None:
    """What was offered, called and answered, each answer by itself, and whether the digest is theirs."""
    shown = show(running, chat)

    for line in (
        "   user> Weather?",
        '   assistant, calls weather (call_1)> {"at":"Oslo"}',
        "   tool, for call_1> rain",
        "   tool weather> of a place",
        "   tool choice: auto",
        "── answer, choice 0",
        "── answer, choice 1",
        "── as output_sha256 says (over all choices, one after the other)",
    ):
        assert line in shown.splitlines(), shown
    assert shown.count("\n   it rains\n") == 2
    assert re.search("── log-probabilities of [0-9]+ tokens", shown)


def test_show_tells_the_prompts_of_completions(running: Gateway) -> None:
    """Texts to go on from, one by one, and what each of them was gone on with."""
    shown = show(running, ask(running, "/v1/completions", PROMPTS))

    assert "   prompt[0]> echo: north" in shown
    assert "   prompt[1]> echo: south" in shown
    assert "── as output_sha256 says (over all choices, one after the other)" in shown


def test_earlier_kinds_of_questions_read_as_they_did(running: Gateway) -> None:
    """One answer has no number, and the digest is its own."""
    shown = show(running, ask(running, "/v1/chat/completions", {k: CHAT[k] for k in ("model", "messages")}))

    assert "── answer\n   it rains\n── as output_sha256 says\n" in shown


def test_a_text_is_found_in_the_answer_that_has_it(running: Gateway, chat: str) -> None:
    """Also where it lies across two pieces of a stream; and in what a tool answered."""
    found = json.loads(appliance("audit", "search", "--text", "it rains", "--json", home=running.home).stdout)
    hits = next(each["hits"] for each in found["matches"] if chat in json.dumps(each))

    assert {"answer[0]", "answer[1]"} <= {each["where"] for each in hits}


def test_a_sealed_case_opens_with_all_of_it(running: Gateway, chat: str, tmp_path: Path) -> None:
    """On another machine: the same lines, and the answers are found by a text."""
    case = tmp_path / "case.zip"
    with running.client(Role.AUDITOR) as client:
        answer = client.post("/v1/audit/export", json={"request_ids": [chat], "purpose": "a test"})
    case.write_bytes(answer.content)
    identity = ("--identity", str(running.home.keys / "dev-auditor.identity"))
    vkey = ("--vkey", str(running.home.keys / "log.vkey"))
    shown = appliance("audit", "open", str(case), *identity, *vkey, "--text", "IT RAINS").stdout

    assert "   tool weather> of a place" in shown
    assert shown.count("\n   it rains\n") == 2
    assert "── found in 1 exchanges" in shown
