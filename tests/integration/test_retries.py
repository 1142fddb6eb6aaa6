"""Idempotency keys through the whole appliance: a request that is asked again runs once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway, question, sse, wait_until

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parent.parent.parent
SURROUNDINGS = frozenset({Kind.EPOCH_OPENED, Kind.INDEX_OPENED})  # written by themselves
PATH = "/v1/chat/completions"
SLOW = "please be slow, say 40 tokens"
SAID = [{"role": "user", "content": "echo: word"}]
GENERATES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "default", "messages": SAID, "n": 2, "logprobs": True},
    "/v1/completions": {"model": "default", "prompt": ["echo: word", "echo: other"], "n": 2},
    "/v1/responses": {"model": "default", "input": "echo: word", "store": False},
    "/v1/messages": {"model": "default", "messages": SAID, "max_tokens": 20},
}
TASKS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"model": "default", "input": "word"},
    "/v1/rerank": {"model": "default", "query": "word", "documents": ["word", "other"]},
    "/tokenize": {"content": "word"},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("retries") / "home") as started:
        yield started


def post(running: Gateway, body: dict[str, Any], key: str, path: str = PATH) -> httpx.Response:
    with running.client() as client:
        return client.post(path, json=body, headers={"idempotency-key": key})


def kinds(running: Gateway, since: int) -> list[Kind]:
    found = query.search(running.home.database, limit=100)
    return [each.kind for each in reversed(found) if each.seq > since and each.kind not in SURROUNDINGS]


def newest(running: Gateway) -> int:
    return int(query.search(running.home.database, limit=1)[0].seq)


def test_a_retry_gets_the_same_answer_and_is_not_run_again(running: Gateway) -> None:
    """Ids, text, time and record are those of the first time; the record has one question and one replay."""
    running.key()
    before = newest(running)
    body = question("echo: once")
    first, again = post(running, body, "a"), post(running, body, "a")

    assert first.content == again.content
    assert first.headers["x-audit-record"] == again.headers["x-audit-record"]
    assert first.headers["x-audit-leaf"] == again.headers["x-audit-leaf"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert kinds(running, before) == [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED, Kind.REQUEST_REPLAYED]
    replay = query.search(running.home.database, kind=Kind.REQUEST_REPLAYED, limit=1)[0]
    opening = int(first.headers["x-audit-record"].rpartition("/")[2])
    assert replay.public == {"endpoint": "chat", "status": 200, "target": opening}
    assert replay.request_id == again.headers["x-request-id"] != first.headers["x-request-id"]


def test_a_caller_who_was_cut_off_finds_the_whole_stream(running: Gateway) -> None:
    """The first caller goes in the middle; the second one hears it all, and it was computed once."""
    running.key()
    before = newest(running)
    body = question(SLOW, stream=True)
    with running.client() as client:
        with client.stream("POST", PATH, json=body, headers={"idempotency-key": "cut"}) as answer:
            heard = next(sse(answer.iter_lines()))
        with client.stream("POST", PATH, json=body, headers={"idempotency-key": "cut"}) as answer:
            frames = list(sse(answer.iter_lines()))
            headers = answer.headers
    said = [each for each in frames if isinstance(each, dict)]
    text = "".join(each["choices"][0]["delta"].get("content") or "" for each in said)

    assert text == " word" * 40
    assert frames[-1] == "[DONE]"
    assert isinstance(heard, dict)
    assert {each["id"] for each in said} == {heard["id"]}
    assert headers["idempotency-replayed"] == "true"
    found = kinds(running, before)
    assert (found.count(Kind.REQUEST_OPENED), found.count(Kind.REQUEST_CLOSED)) == (1, 1)
    closing = query.search(running.home.database, kind=Kind.REQUEST_CLOSED, limit=1)[0]
    assert closing.public["outcome"] == "stop"


def test_a_retry_beside_the_running_request_waits_for_its_answer(running: Gateway) -> None:
    """Two at once, whole answers: both get the one that is computed."""
    running.key()
    before = newest(running)
    body = question(SLOW)
    answers: list[httpx.Response] = []
    both = [threading.Thread(target=lambda: answers.append(post(running, body, "both"))) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()

    assert answers[0].content == answers[1].content
    assert sorted("idempotency-replayed" in each.headers for each in answers) == [False, True]
    assert kinds(running, before).count(Kind.REQUEST_OPENED) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", GENERATES)
def test_every_endpoint_tells_the_same_bytes_again(running: Gateway, path: str, *, stream: bool) -> None:
    """Whole or streamed: ids, times and pieces are those of the first time."""
    running.key()
    before = newest(running)
    body = GENERATES[path] | {"stream": stream}
    first, again = (post(running, body, f"{path} {stream}", path) for _ in range(2))

    assert first.status_code == 200, first.text
    assert first.content == again.content
    assert kinds(running, before).count(Kind.REQUEST_OPENED) == 1


@pytest.mark.parametrize("path", TASKS)
def test_tasks_have_keys_too(running: Gateway, path: str) -> None:
    """What is computed without an answer in words is computed and recorded once as well."""
    running.key()
    before = newest(running)
    first, again = (post(running, TASKS[path], path, path) for _ in range(2))

    assert first.status_code == 200
    assert first.content == again.content
    assert kinds(running, before) == [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED, Kind.REQUEST_REPLAYED]


def test_another_request_under_a_key_is_refused_on_the_record(running: Gateway) -> None:
    """409 and not worth repeating; order and spaces of the body are no difference."""
    first = post(running, question("echo: mine"), "conflict")
    other = post(running, question("echo: yours"), "conflict")
    turned = dict(reversed(question("echo: mine").items()))
    with running.client() as client:
        same = client.post(
            PATH, content=json.dumps(turned, indent=4), headers={"idempotency-key": "conflict"}
        )
    refused = query.search(running.home.database, kind=Kind.REQUEST_REFUSED, limit=1)[0]

    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert other.headers["x-should-retry"] == "false"
    assert refused.public["code"] == "idempotency_conflict"
    assert same.content == first.content


def test_keys_belong_to_the_api_key_and_the_route(running: Gateway) -> None:
    """Somebody else's key of the same name finds nothing of theirs."""
    body = question("echo: private")
    first = post(running, body, "shared")
    made = json.loads(
        appliance("key", "create", "other", "--role", "kiosk", "--json", home=running.home).stdout
    )
    token = made.get("token") or made["secret"]
    with running.client(None, headers={"authorization": f"Bearer {token}"}) as client:
        other = client.post(PATH, json=body, headers={"idempotency-key": "shared"})

    assert other.status_code == 200
    assert "idempotency-replayed" not in other.headers
    assert other.json()["id"] != first.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel".encode().decode("latin-1"), "tab\there"])
def test_a_key_is_short_and_printable(running: Gateway, key: str) -> None:
    """Anything else is refused, and the error does not repeat it."""
    with running.client() as client:
        answer = client.post(
            PATH, json=question("echo: x"), headers=[(b"idempotency-key", key.encode("latin-1"))]
        )

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_idempotency_key")
    assert not key or key not in answer.text


def test_what_failed_or_was_refused_runs_again(running: Gateway) -> None:
    """A worker that dies, and a mistake in the body, leave nothing behind that would be told again."""
    body = question("please crash")
    answers = []
    for _ in range(2):
        running.wait_ready()
        answers.append(post(running, body, "failed"))
    running.wait_ready()
    refused = post(running, question("x", model="unknown"), "refused")
    mended = post(running, question("echo: x"), "refused")

    assert [each.json()["error"]["code"] for each in answers] == ["engine_failed"] * 2
    assert answers[0].headers["x-audit-record"] != answers[1].headers["x-audit-record"]
    assert (refused.status_code, mended.status_code) == (404, 200)


def test_a_key_is_sealed_and_nowhere_else(running: Gateway) -> None:
    """The opening's content has it; logs, headers of the record, metrics and answers do not."""
    name = "visitor-Ada-Kim-0042"
    body = question("echo: x")
    answers = [post(running, body, name) for _ in range(2)]
    shown = appliance("audit", "show", answers[0].headers["x-request-id"], home=running.home).stdout
    with running.client(Role.OPERATOR) as client:
        metrics = client.get("/metrics").text

    assert name in shown
    assert 'appliance_requests_replayed_total{endpoint="chat"}' in metrics
    lying_about = [
        running.log_file.read_text(),
        metrics,
        *(str(each.headers) + each.text for each in answers),
    ]
    assert [place for place in lying_about if name in place] == []
    database = running.home.database
    files = [database, *database.parent.glob("appliance.db-*")]
    assert [each for each in files if name.encode() in each.read_bytes()] == []


def test_the_guides_example_is_true(running: Gateway) -> None:
    """Both commands run as they are printed; the second one is told what the first one was."""
    guide = (ROOT / "deploy" / "guides" / "api.md").read_text()
    section = guide.partition("## Retries")[2].partition("## ")[0]
    (script,) = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "URL": running.url, "KEY": running.key()}
    said = subprocess.run(
        ["bash", "-ec", script], env=environment, capture_output=True, text=True, check=True
    )
    first, _, second = said.stdout.partition("HTTP/1.1 200")

    assert "idempotency-replayed: true" in second
    assert json.loads(second.rpartition("\n")[2]) == json.loads(first)


def test_a_restart_forgets_the_keys(tmp_path: Path) -> None:
    """They are in memory only: behind it the same request runs anew."""
    with gateway(tmp_path / "home") as running:
        first = post(running, question("echo: x"), "a")
        running.stop()
        running.start()
        again = post(running, question("echo: x"), "a")

    assert (first.status_code, again.status_code) == (200, 200)
    assert "idempotency-replayed" not in again.headers
    assert first.headers["x-audit-record"] != again.headers["x-audit-record"]


def test_an_answer_waits_for_its_retry_without_anybody(running: Gateway) -> None:
    """Nobody listens any more, and the record is closed as answered."""
    before = newest(running)
    with (
        running.client() as client,
        contextlib.suppress(httpx.ReadTimeout),
    ):
        client.post(PATH, json=question(SLOW), headers={"idempotency-key": "alone"}, timeout=0.3)
    wait_until(lambda: Kind.REQUEST_CLOSED in kinds(running, before))
    closing = query.search(running.home.database, kind=Kind.REQUEST_CLOSED, limit=1)[0]
    again = post(running, question(SLOW), "alone")

    assert closing.public["outcome"] == "stop"
    assert again.json()["choices"][0]["message"]["content"] == " word" * 40
