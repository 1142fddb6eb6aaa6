"""SIGTERM: nothing new, who waits is told, who is answered has time; all of it on the record, exit code 0."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.harness import Gateway, gateway, question, sse, wait_until
from tests.records import assert_verified

pytestmark = pytest.mark.integration
TOML = "[engine]\nn_seq_max = 1\n[server]\nshutdown_grace_seconds = {grace}\n"
PLACES = 2


@contextlib.contextmanager
def streaming(running: Gateway, text: str) -> Iterator[list[Iterator[Any]]]:
    """Every place taken by an answer whose first pieces have come."""
    with contextlib.ExitStack() as held:
        streams = []
        for _ in range(PLACES):
            client = held.enter_context(running.client())
            body = question(text, stream=True)
            answer = held.enter_context(client.stream("POST", "/v1/chat/completions", json=body))
            assert answer.status_code == 200
            streams.append(sse(answer.iter_lines()))
        next(streams[0])
        yield streams


def ended(frames: Iterator[Any]) -> Any:
    return list(frames)[-1]


def told(running: Gateway, kind: Kind, *names: str) -> list[tuple[Any, ...]]:
    found = query.search(running.home.database, kind=kind, limit=100)
    return [tuple(each.public[name] for name in names) for each in reversed(found)]


def test_what_runs_is_finished_and_nothing_new_begins(tmp_path: Path) -> None:
    """The running answer comes whole; the waiting and the new one get 503 at once; `/readyz` says so."""
    waited: list[httpx.Response] = []
    with gateway(tmp_path / "home", toml=TOML.format(grace=20)) as running:
        assert running.process is not None
        with streaming(running, "please be slow, say 60 tokens") as streams, running.client() as client:
            client.get("/readyz")  # a connection that is open when the signal comes
            waiting = threading.Thread(target=lambda: waited.append(running.chat("echo: waits")))
            waiting.start()
            with running.client(Role.OPERATOR) as operator:
                wait_until(
                    lambda: 'appliance_queue_waiting{role="kiosk"} 1.0' in operator.get("/metrics").text
                )
            running.process.send_signal(signal.SIGTERM)
            waiting.join(10)
            ready = client.get("/readyz")
            fresh = running.chat("echo: new")
            is_still_up = running.process.poll() is None
            ends = [ended(each) for each in streams]
        code = running.process.wait(30)
        closings = told(running, Kind.REQUEST_CLOSED, "outcome", "code")
        refusals = told(running, Kind.REQUEST_REFUSED, "code", "status")
        assert_verified(running.home)

    assert is_still_up
    assert ends == ["[DONE]"] * PLACES
    for each in (waited[0], fresh):
        assert (each.status_code, each.json()["error"]["code"]) == (503, "stopping")
        assert each.headers["retry-after"] == "20"
        assert each.headers["connection"] == "close"
    assert ready.status_code == 503
    assert ready.json()["troubles"][0]["code"] == "stopping"
    assert code == 0
    assert closings == [("stop", "")] * PLACES
    assert refusals == [("stopping", 503)] * 2


@pytest.mark.parametrize(("grace", "insists"), [(1, False), (300, True)], ids=["in time", "a second signal"])
def test_what_does_not_end_in_time_is_cut_off_and_closed(
    tmp_path: Path, grace: int, *, insists: bool
) -> None:
    """Behind the grace, or for whoever insists, streams end with an error, and the record says `failed`,
    `stopped`.
    """
    with gateway(tmp_path / "home", toml=TOML.format(grace=grace)) as running:
        assert running.process is not None
        with streaming(running, "please be slow, say 400 tokens") as streams:
            running.process.send_signal(signal.SIGTERM)
            if insists:
                assert running.chat("echo: x").status_code == 503
                running.process.send_signal(signal.SIGTERM)
            ends = [ended(each) for each in streams]
        code = running.process.wait(30)
        closings = told(running, Kind.REQUEST_CLOSED, "outcome", "code")
        assert_verified(running.home)

    assert [each["error"]["code"] for each in ends] == ["stopped"] * PLACES
    assert code == 0
    assert closings == [("failed", "stopped")] * PLACES
