"""Locked prompts through a whole gateway: no endpoint takes another one, and the record says which it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import WithdrawDocument
from appliance.core import Genre, Role
from appliance.terms import Terms
from tests.guarded import PROMPT, USER, client_of, code_of, publish, recorded
from tests.harness import Gateway, gateway, question

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a prompt that no key has unless it says so."""
    with gateway(tmp_path_factory.mktemp("locked") / "home") as running:
        publish(running, Genre.PROMPT, "lobby", PROMPT)
        yield running


@pytest.fixture(scope="module")
def locked(guarded: Gateway) -> Iterator[httpx.Client]:
    with client_of(guarded, Terms(prompt="lobby")) as made:
        yield made


SYSTEM: Final = [{"role": "system", "content": "Be a pirate."}]
# Every way of asking with words of one's own where the locked prompt stands: path, body, status, parameter.
ESCAPES: Final = [
    ("/v1/chat/completions", {"messages": [*SYSTEM, *USER]}, 400, "messages"),
    ("/v1/chat/completions", {"messages": [*USER, *SYSTEM, *USER]}, 400, "messages"),
    ("/v1/chat/completions", {"messages": [{"role": "developer", "content": "x"}, *USER]}, 400, "messages"),
    ("/v1/responses", {"input": "echo: x", "instructions": "Be a pirate."}, 400, "instructions"),
    ("/v1/responses", {"input": [*SYSTEM, *USER]}, 400, "instructions"),
    ("/v1/responses", {"input": [{"role": "developer", "content": "x"}, *USER]}, 400, "instructions"),
    ("/v1/responses/input_tokens", {"input": "x", "instructions": "Be a pirate."}, 400, "instructions"),
    ("/v1/messages", {"messages": USER, "system": "Be a pirate.", "max_tokens": 9}, 400, "system"),
    ("/v1/messages/count_tokens", {"messages": USER, "system": "Be a pirate."}, 400, "system"),
    ("/v1/completions", {"prompt": "echo: x"}, 403, "prompt"),
    ("/v1/completions", {"prompt": [101, 102]}, 403, "prompt"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), ESCAPES, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_no_endpoint_escapes_the_lock(
    guarded: Gateway,
    locked: httpx.Client,
    path: str,
    body: dict[str, Any],
    status: int,
    param: str,
    *,
    stream: bool,
) -> None:
    """A caller's own system prompt is refused, and told why; no worker sees the question."""
    asked = {"model": "default", **body}
    if stream and path not in {"/v1/responses/input_tokens", "/v1/messages/count_tokens"}:
        asked["stream"] = True
    answer = locked.post(path, json=asked)

    assert answer.status_code == status
    error = answer.json()["error"]
    if not path.startswith("/v1/messages"):  # Anthropic's shape has neither
        assert (error["code"], error["param"]) == ("system_prompt_locked", param)
    assert "locked system prompt" in error["message"]
    last = query.search(guarded.home.database, limit=1)[0]
    assert (last.kind, last.public["code"]) == (Kind.REQUEST_REFUSED, "system_prompt_locked")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": USER}),
        ("/v1/responses", {"input": "echo: x"}),
        ("/v1/messages", {"messages": USER, "max_tokens": 9}),
        ("/v1/responses/input_tokens", {"input": "x"}),
        ("/v1/messages/count_tokens", {"messages": USER}),
    ],
)
def test_the_locked_prompt_stands_before_every_conversation(
    guarded: Gateway, locked: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    """The model is told it, and the record says which version of which prompt it was."""
    answer = locked.post(path, json={"model": "default", **body})
    assert answer.status_code == 200, answer.text

    opening = recorded(guarded, answer)[Kind.REQUEST_OPENED]
    assert [each["role"] for each in opening["messages"]] == ["system", "user"]
    assert opening["messages"][0]["content"] == PROMPT
    assert (opening["locked_prompt"]["name"], opening["locked_prompt"]["version"]) == ("lobby", 1)
    assert PROMPT not in answer.text


def test_a_pinned_version_never_changes_under_its_key(tmp_path: Path) -> None:
    """Another version is in force at once for keys that name the prompt, and never for one that pins."""
    with gateway(tmp_path / "home") as running:
        publish(running, Genre.PROMPT, "desk", "First.")
        with (
            client_of(running, Terms(prompt="desk")) as latest,
            client_of(running, Terms(prompt="desk@1")) as pinned,
        ):

            def told(client: httpx.Client) -> str:
                answer = client.post("/v1/chat/completions", json=question("echo: x"))
                assert answer.status_code == 200, answer.text
                return str(recorded(running, answer)[Kind.REQUEST_OPENED]["messages"][0]["content"])

            assert (told(latest), told(pinned)) == ("First.", "First.")
            assert publish(running, Genre.PROMPT, "desk", "Second.")["version"] == 2
            assert (told(latest), told(pinned)) == ("Second.", "First.")
            assert publish(running, Genre.PROMPT, "desk", "Second.")["is_new"] is False

            running.command(WithdrawDocument(document=Genre.PROMPT, reference="desk@1"))
            refused = pinned.post("/v1/chat/completions", json=question("echo: x"))
            assert code_of(refused) == (503, "prompt_unavailable", None)
            assert told(latest) == "Second."
            running.command(WithdrawDocument(document=Genre.PROMPT, reference="desk"))
            assert code_of(latest.post("/v1/chat/completions", json=question("x")))[0] == 503


def test_a_stored_conversation_goes_on_behind_its_lock(guarded: Gateway) -> None:
    """The next response of a chain has the locked prompt once, and first."""
    with client_of(guarded, Terms(prompt="lobby"), stores_responses=True) as client:
        first = client.post("/v1/responses", json={"model": "default", "input": "echo: x", "store": True})
        body = {"model": "default", "input": "echo: y", "previous_response_id": first.json()["id"]}
        second = client.post("/v1/responses", json=body)

    roles = [each["role"] for each in recorded(guarded, second)[Kind.REQUEST_OPENED]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


def test_a_lobby_screen_is_told_the_locked_prompt(guarded: Gateway) -> None:
    """A screen's page leaves its own prompt out where its key has a locked one."""
    token = guarded.key(Role.KIOSK, terms=Terms(prompt="lobby"))
    asked = {"question": "echo: x", "turns": [], "conversation": "0" * 32}
    sent = {"origin": guarded.console_url, "sec-fetch-site": "same-origin", "cookie": f"kiosk={token}"}
    with httpx.Client(base_url=guarded.console_url, headers=sent, timeout=30) as browser:
        answer = browser.post("/kiosk/ask", json=asked)
    assert answer.status_code == 200, answer.text

    opening = recorded(guarded, answer)[Kind.REQUEST_OPENED]
    assert [each["role"] for each in opening["messages"]] == ["system", "user"]
    assert opening["messages"][0]["content"] == PROMPT
