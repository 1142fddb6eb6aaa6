"""kill -9 in the middle: of the worker, of the gateway. Every case ends in a verified record."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from tests.harness import Gateway, gateway, question, sse, wait_until
from tests.records import assert_verified, closing_of, openings

pytestmark = pytest.mark.integration


def stream_some(
    running: Gateway, text: str, pieces: int
) -> tuple[httpx.Response, Iterator[dict[str, Any] | str], httpx.Client]:
    """Start a stream and read until `pieces` pieces of text have come."""
    client = running.client()
    request = client.build_request(
        "POST", "/v1/chat/completions", json=question(text, stream=True, max_tokens=400)
    )
    answer = client.send(request, stream=True)
    assert answer.status_code == 200
    events = sse(answer.iter_lines())
    seen = 0
    for event in events:
        assert isinstance(event, dict)
        seen += bool(event["choices"][0]["delta"].get("content"))
        if seen >= pieces:
            break
    return answer, events, client


def test_worker_killed_in_mid_stream(tmp_path: Path) -> None:
    """The caller gets an error event within a second, the next request works, the record says failed."""
    with gateway(tmp_path / "home") as running:
        answer, events, client = stream_some(running, "please be slow; say 400 tokens", 2)
        killed_at = time.monotonic()
        os.kill(running.worker_pid, signal.SIGKILL)
        rest = list(events)
        took = time.monotonic() - killed_at

        last = rest[-1]
        assert isinstance(last, dict)
        assert last["error"]["code"] == "engine_failed"
        assert "[DONE]" not in rest
        assert took < 1.0
        client.close()

        with running.client() as asking:
            seen = asking.get("/readyz")
            assert seen.status_code in {200, 503}
            assert seen.json()["models"]["smollm2-135m-instruct"]["restarts"] >= 0
        running.wait_ready()
        with running.client() as asking:
            assert asking.get("/readyz").json()["models"]["smollm2-135m-instruct"]["restarts"] == 1
        assert running.chat("echo: again").json()["choices"][0]["message"]["content"] == "again"

        closing = closing_of(running.home, answer.headers["x-request-id"])
        assert (closing.public["outcome"], closing.public["code"]) == ("failed", "engine_failed")
        running.stop()
        assert_verified(running.home)


def test_readyz_tells_while_the_worker_is_down(tmp_path: Path) -> None:
    """A dead worker turns `/readyz` to 503 and requests to `model_not_ready`, until it is back."""
    with gateway(tmp_path / "home", toml="[audit]\n") as running, running.client() as client:
        os.kill(running.worker_pid, signal.SIGKILL)
        wait_until(lambda: client.get("/readyz").status_code == 503, seconds=5)
        told = [each["code"] for each in client.get("/readyz").json()["troubles"] if each["stops"]]
        assert told in ([], ["worker_died"])  # empty where it is back already
        refused = running.chat("echo: too early")
        if refused.status_code != 200:
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "model_not_ready"
            assert int(refused.headers["retry-after"]) >= 1
        running.wait_ready()


def test_worker_that_crashes_on_a_prompt_takes_nobody_with_it(tmp_path: Path) -> None:
    """A prompt that kills the worker fails cleanly; the gateway, the log and later requests live."""
    with gateway(tmp_path / "home") as running:
        crashed = running.chat("please crash")

        assert crashed.status_code == 503
        assert crashed.json()["error"]["code"] == "engine_failed"
        closing = closing_of(running.home, crashed.headers["x-request-id"])
        assert closing.public["outcome"] == "failed"
        running.wait_ready()
        assert running.chat("echo: alive").status_code == 200


def test_gateway_killed_in_mid_stream(tmp_path: Path) -> None:
    """After a restart the record says recovered, and no acknowledged record is missing."""
    with gateway(tmp_path / "home") as running:
        acknowledged: list[str] = []
        stop = threading.Event()

        def ask_on() -> None:
            while not stop.is_set():
                try:
                    answer = running.chat("echo: acknowledged")
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    acknowledged.append(answer.headers["x-request-id"])

        asking = [threading.Thread(target=ask_on) for _ in range(4)]
        running.key()
        for thread in asking:
            thread.start()
        answer, events, client = stream_some(running, "please be slow; say 400 tokens", 3)
        wait_until(lambda: len(acknowledged) >= 20, seconds=20)
        running.kill()
        stop.set()
        for thread in asking:
            thread.join(10)
        with pytest.raises(httpx.HTTPError):
            list(events)
        client.close()

        running.start()
        closing = closing_of(running.home, answer.headers["x-request-id"])
        assert closing.public["outcome"] == "recovered"
        for request_id in acknowledged:
            assert closing_of(running.home, request_id).public["outcome"] == "stop"
        assert len(openings(running.home)) >= len(acknowledged) + 1
        assert running.chat("echo: after").status_code == 200
        running.stop()
        assert_verified(running.home)


def test_no_worker_outlives_its_gateway(tmp_path: Path) -> None:
    """End of file on the socket means exit: nothing is left running."""
    with gateway(tmp_path / "home") as running:
        worker = running.worker_pid
        running.kill()

        wait_until(lambda: not Path(f"/proc/{worker}").exists(), seconds=5)


def test_client_that_leaves_frees_its_sequence(tmp_path: Path) -> None:
    """A closed connection ends the answer soon after, and the record says client_gone."""
    with gateway(tmp_path / "home") as running:
        answer, _events, client = stream_some(running, "please be slow; say 400 tokens", 2)
        answer.close()
        client.close()

        request_id = answer.headers["x-request-id"]
        wait_until(
            lambda: any(
                record.kind is Kind.REQUEST_CLOSED
                for record in query.by_request(running.home.database, request_id)
            ),
            seconds=5,
        )
        closing = closing_of(running.home, request_id)
        assert closing.public["outcome"] == "client_gone"
        assert int(closing.public["completion_tokens"]) < 100
        running.stop()
        assert_verified(running.home)


def test_client_that_leaves_a_whole_answer_is_noticed_too(tmp_path: Path) -> None:
    """Without a stream a closed connection stops the generation as well."""
    with gateway(tmp_path / "home") as running:
        with running.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post(
                "/v1/chat/completions",
                json=question("please be slow; say 400 tokens", max_tokens=400),
                timeout=0.7,
            )
        wait_until(
            lambda: (
                [
                    record.public["outcome"]
                    for record in query.search(running.home.database, kind=Kind.REQUEST_CLOSED, limit=10)
                ]
                == ["client_gone"]
            ),
            seconds=5,
        )


def test_clean_stop_closes_every_record(tmp_path: Path) -> None:
    """SIGTERM under load ends with exit code 0 and no open request."""
    with gateway(
        tmp_path / "home",
        toml="[server]\nshutdown_grace_seconds = 1\n[audit]\n",
    ) as running:
        answer, _events, client = stream_some(running, "please be slow; say 400 tokens", 2)
        code = running.stop()
        client.close()

        assert code == 0
        closing = closing_of(running.home, answer.headers["x-request-id"])
        assert closing.public["outcome"] in {"failed", "client_gone"}
        assert_verified(running.home)
