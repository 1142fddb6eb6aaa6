"""Callers who hang up, at every stage of an answer, over real sockets to a whole gateway."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from tests.harness import Gateway, gateway, question, wait_until
from tests.records import assert_verified, closing_of, openings

SLOWLY = "please be slow; say 400 tokens"
SCHEMA = {"type": "array", "items": {"type": "integer"}, "minItems": 300}
# What is asked, and how many events of the stream are read before its caller leaves.
STAGES: dict[str, tuple[dict[str, Any], int]] = {
    "in the queue": (question(SLOWLY), 0),
    "in the prompt": (question("read this, " * 300 + "\n" + SLOWLY), 0),
    "at the first token": (question(SLOWLY), 1),
    "in the answer": (question(SLOWLY), 8),
    "with a schema": (
        question(
            SLOWLY, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
        ),
        4,
    ),
    "in several choices": (question(SLOWLY, n=3), 6),
    "reproducible": (question(SLOWLY, reproducible=True), 4),
}


def leave(running: Gateway, body: dict[str, Any], num_events: int) -> None:
    """Ask, read so much of the answer, or wait until the question is on the record, and hang up."""
    known = len(openings(running.home))
    with running.client() as client:
        if body["stream"] and num_events:
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                events = (line for line in answer.iter_lines() if line.startswith("data: "))
                for _ in range(num_events):
                    next(events)
            return
        asked = client.build_request("POST", "/v1/chat/completions", json=body)
    lines = [f"{name}: {asked.headers[name]}" for name in ("authorization", "content-type", "content-length")]
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "host: x", *lines, "", ""])
    with socket.create_connection((asked.url.host, asked.url.port or 80)) as sock:
        sock.sendall(head.encode() + asked.read())
        wait_until(lambda: len(openings(running.home)) > known)


@pytest.mark.integration
def test_every_departure_has_one_closing(tmp_path: Path) -> None:
    """At every stage, streamed and not, over real sockets: client_gone, once, and room for the next."""
    toml = "[engine]\nn_seq_max = 2\n"
    with gateway(tmp_path / "home", toml=toml) as running:
        running.key()
        for stage, (body, num_events) in STAGES.items():
            for stream in (True, False):
                with contextlib.ExitStack() as stack:
                    if stage == "in the queue":
                        stack.enter_context(occupied(running, 2))
                    known = {each.request_id for each in openings(running.home)}
                    leave(running, body | {"stream": stream}, num_events)
                    (request_id,) = {each.request_id for each in openings(running.home)} - known
                    wait_until(lambda: is_closed(running, str(request_id)))  # noqa: B023 - at once
                assert closing_of(running.home, str(request_id)).public["outcome"] == "client_gone", stage
            assert running.chat("echo: next").json()["choices"][0]["message"]["content"] == "next"
        assert running.stop() == 0
        assert_verified(running.home)


@contextlib.contextmanager
def occupied(running: Gateway, number: int) -> Iterator[None]:
    """So many others are being answered; they leave, too."""
    with running.client() as client, contextlib.ExitStack() as stack:
        for _ in range(number):
            body = question(SLOWLY, stream=True)
            answer = stack.enter_context(client.stream("POST", "/v1/chat/completions", json=body))
            next(answer.iter_lines())
        yield


def is_closed(running: Gateway, request_id: str) -> bool:
    records = query.by_request(running.home.database, request_id)
    return any(each.kind is Kind.REQUEST_CLOSED for each in records)
