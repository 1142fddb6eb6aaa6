"""Tasks under faults: leaving callers, killed processes, a closed log, and a stream beside them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.core import Role
from tests.harness import Gateway, gateway, sse, wait_until
from tests.records import assert_verified, closing_of, openings

pytestmark = pytest.mark.integration

EMBED = "/v1/embeddings"
SLOW = {"model": "default", "input": ["please be slow"] * 240}  # many seconds of batches
BODIES: dict[str, dict[str, Any]] = {
    EMBED: {"model": "default", "input": "hello"},
    "/v1/rerank": {"query": "tax", "documents": ["a cat", "a tax form"]},
    "/tokenize": {"content": "hello"},
    "/detokenize": {"tokens": [104, 105]},
    "/v1/responses/input_tokens": {"input": "hello"},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("tasks") / "home") as started:
        yield started


def post(running: Gateway, path: str, body: dict[str, Any]) -> httpx.Response:
    with running.client() as client:
        return client.post(path, json=body)


def good(running: Gateway, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = post(running, path, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def in_background(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def test_nobodys_stream_stalls_and_small_jobs_overtake(running: Gateway) -> None:
    """Beside seconds of embeddings a stream goes on, and a small job is answered in between."""
    running.key()  # made once, before two threads ask for it
    known = len(openings(running.home))
    heavy = in_background(lambda: post(running, EMBED, SLOW))
    wait_until(lambda: len(openings(running.home)) > known or not heavy.is_alive())
    began = time.monotonic()
    body = {"model": "default", "messages": [{"role": "user", "content": "say 9 tokens"}], "stream": True}
    with running.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert list(sse(answer.iter_lines()))[-1] == "[DONE]"
    good(running, EMBED, {"model": "default", "input": "small"})

    assert heavy.is_alive(), "the heavy job ended first: it proves nothing"
    assert time.monotonic() - began < 10
    heavy.join(60)


def test_client_that_leaves_ends_its_job(tmp_path: Path) -> None:
    """A closed connection frees the worker, and the record says client_gone."""
    with gateway(tmp_path / "home") as running:
        with running.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post(EMBED, json=SLOW, timeout=0.5)
        request_id = str(openings(running.home)[0].request_id)
        wait_until(lambda: len(query.by_request(running.home.database, request_id)) == 2, seconds=5)

        assert closing_of(running.home, request_id).public["outcome"] == "client_gone"
        began = time.monotonic()
        good(running, EMBED, {"model": "default", "input": "next"})
        assert time.monotonic() - began < 3


def test_worker_killed_in_the_middle_of_a_job(tmp_path: Path) -> None:
    """503 for the caller, a closing that says failed, and a worker that comes back."""
    with gateway(tmp_path / "home") as running:
        found: list[httpx.Response] = []
        asking = in_background(lambda: found.append(post(running, EMBED, SLOW)))
        wait_until(lambda: openings(running.home))
        time.sleep(0.3)
        os.kill(running.worker_pid, signal.SIGKILL)
        asking.join(10)

        assert (found[0].status_code, found[0].json()["error"]["code"]) == (503, "engine_failed")
        assert int(found[0].headers["retry-after"]) > 0
        closing = closing_of(running.home, found[0].headers["x-request-id"])
        assert (closing.public["outcome"], closing.public["code"]) == ("failed", "engine_failed")
        running.wait_ready()
        good(running, EMBED, {"model": "default", "input": "again"})


def test_failed_batches_do_not_end_the_worker(running: Gateway) -> None:
    """The library giving up on a batch is an error of that batch; answers go on."""
    worker = running.worker_pid
    answer = post(running, EMBED, {"model": "default", "input": "please fail"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "out_of_memory")
    good(running, EMBED, {"model": "default", "input": "again"})
    assert running.worker_pid == worker


def test_gateway_killed_in_the_middle_of_a_job(tmp_path: Path) -> None:
    """After a restart the opening has its closing `recovered`, and the record verifies."""
    with gateway(tmp_path / "home") as running:
        running.key()
        # Its connection breaks when the gateway is killed: that error is expected and ends the thread.
        body = {"headers": {"authorization": f"Bearer {running.key()}"}, "json": SLOW}

        def ask() -> None:
            with pytest.raises(httpx.HTTPError):
                httpx.post(f"{running.url}{EMBED}", timeout=30, **body)  # type: ignore[arg-type]

        asking = in_background(ask)
        wait_until(lambda: openings(running.home))
        running.kill()
        asking.join(10)
        running.start()
        request_id = str(openings(running.home)[0].request_id)

        assert closing_of(running.home, request_id).public["outcome"] == "recovered"
        running.stop()
        assert_verified(running.home)


def test_latched_log_answers_no_task(tmp_path: Path) -> None:
    """Where the log can not commit, no endpoint answers (law 4)."""
    with gateway(tmp_path / "home") as running:
        running.key()
        running.home.database.rename(tmp_path / "taken-away.db")
        for path, body in BODIES.items():
            answer = post(running, path, body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "audit_unavailable")


def test_inputs_lie_nowhere_in_the_clear(tmp_path: Path) -> None:
    """Texts of every endpoint are searched in all files and all words of the appliance."""
    canary = "zebra-quartz-8842-lantern"
    with gateway(tmp_path / "home") as running:
        good(running, EMBED, {"model": "default", "input": canary})
        good(running, "/v1/rerank", {"query": canary, "documents": [canary]})
        tokens = good(running, "/tokenize", {"content": canary})["tokens"]
        assert good(running, "/detokenize", {"tokens": tokens})["content"] == canary
        good(running, "/v1/responses/input_tokens", {"input": canary})
        post(running, EMBED, {"model": "default", "input": [canary, ""]})
        with running.client(Role.OPERATOR) as client:
            metrics = client.get("/metrics").text
        running.stop()
        assert 'endpoint="embeddings"' in metrics
        places = [path for path in running.home.root.rglob("*") if path.is_file()]
        found = [path for path in places if running.home.models not in path.parents
                 if canary.encode() in path.read_bytes()]  # fmt: skip
        assert found == []
        assert canary not in running.log_file.read_text() + "".join(running.output) + metrics
        assert_verified(running.home)
