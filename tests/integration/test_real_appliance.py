"""The whole appliance over the real starter model."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from tests.harness import appliance as program
from tests.harness import gateway, question, sse
from tests.integration.real import QUESTIONS
from tests.records import assert_verified, closing_of

pytestmark = pytest.mark.model


def test_whole_appliance_over_the_model(tmp_path: Path) -> None:
    """The official client chats, the record decrypts that very exchange, and verifies."""
    with gateway(tmp_path / "home", worker="model") as running:
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key(), max_retries=0) as client:
            whole = client.chat.completions.create(
                model="default",
                messages=[{"role": "user", "content": QUESTIONS[0]}],
                temperature=0,
                max_tokens=24,
            )
            stream = client.chat.completions.create(
                model="default",
                messages=[{"role": "user", "content": QUESTIONS[0]}],
                temperature=0,
                max_tokens=24,
                stream=True,
            )
            pieces = "".join(c.delta.content or "" for chunk in stream for c in chunk.choices)
        answer = whole.choices[0].message.content
        assert answer
        # Behind a shared prefix the library rounds differently, so this is not the other answer's text:
        # it is what the record holds of this stream, piece by piece.
        newest = query.search(running.home.database, kind=Kind.REQUEST_CLOSED, limit=1)[0]
        told = json.loads(program("audit", "show", str(newest.seq), "--json", home=running.home).stdout)
        contents = [record["content"] or {} for record in told["records"]]
        assert pieces == "".join(each.get("text", "") + each.get("output", "") for each in contents)
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 24
        shown = program("audit", "show", str(whole._request_id), home=running.home)
        assert QUESTIONS[0] in shown.stdout
        assert answer.splitlines()[0] in shown.stdout
        assert "included in the tree" in shown.stdout
        assert_verified(running.home)


def test_model_worker_killed_in_mid_stream(tmp_path: Path) -> None:
    """The real worker too: an error event, a record that says failed, and it comes back."""
    with gateway(tmp_path / "home", worker="model") as running:
        with (
            running.client() as client,
            client.stream(
                "POST",
                "/v1/chat/completions",
                json=question("Write a very long story about a river.", stream=True, max_tokens=4000),
            ) as answer,
        ):
            events = sse(answer.iter_lines())
            for _ in range(4):
                next(events)
            os.kill(running.worker_pid, signal.SIGKILL)
            rest: list[Any] = list(events)
        assert rest[-1]["error"]["code"] == "engine_failed"
        closing = closing_of(running.home, answer.headers["x-request-id"])
        assert closing.public["outcome"] == "failed"
        running.wait_ready()
        assert running.chat("Hello", max_tokens=4).status_code == 200
