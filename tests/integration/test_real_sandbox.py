"""The real worker in its sandbox: everything that callers may ask of a model is done behind the seal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.core import Role
from tests.harness import Gateway, gateway, question, sse

pytestmark = [pytest.mark.model]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "when": {"type": "string", "maxLength": 8}},
    "required": ["colour", "when"],
    "additionalProperties": False,
}


def test_whole_life_behind_the_seal(tmp_path: Path) -> None:
    """Chats, streams, schemas, vectors, reproducible answers: one worker does it all, and opens nothing."""
    toml = "[audit]\norigin = 'test/sandbox/1'\n[engine]\nn_ctx = 4096\nsandbox = 'required'\n"
    with gateway(tmp_path / "home", worker="model", toml=toml) as running:
        pid = running.worker_pid
        before = opened(pid)
        with running.client() as client:
            for options in (
                {"max_tokens": 8},
                {"max_tokens": 8, "temperature": 1.0, "seed": 7, "logprobs": True, "top_logprobs": 3, "n": 2},
                {"max_tokens": 40, "response_format": _as_format(SCHEMA)},
                {"max_tokens": 8, "reproducible": True},
            ):
                answer = client.post("/v1/chat/completions", json=question("Name a colour.", **options))
                assert answer.status_code == 200, answer.text
            asked = question("Count to ten.", max_tokens=12, stream=True)
            with client.stream("POST", "/v1/chat/completions", json=asked) as stream:
                assert list(sse(stream.iter_lines()))[-1] == "[DONE]"
            vectors = client.post("/v1/embeddings", json={"model": "default", "input": ["one", "two " * 300]})
            assert vectors.status_code == 200, vectors.text
            wrong = question("x", response_format=_as_format({"type": "string", "pattern": "("}))
            assert client.post("/v1/chat/completions", json=wrong).status_code == 400
        for _ in range(3):
            assert running.chat("Once more, with a prefix of its own.", max_tokens=8).status_code == 200
        with running.client(Role.OPERATOR) as operator:
            (told,) = operator.get("/readyz").json()["models"].values()
        assert (told["restarts"], running.worker_pid) == (0, pid)
        assert opened(pid) - before <= {"anon_inode:[eventpoll]"}
        assert_confined(running, told["sandbox"])


def opened(pid: int) -> set[str]:
    """What a process holds open, by name; pipes and sockets without their number."""
    return {str(each.readlink()).partition(":[")[0] for each in Path(f"/proc/{pid}/fd").iterdir()}


def assert_confined(running: Gateway, layers: list[str]) -> None:
    """The kernel says the same of each of its threads, and of the keeper beside it."""
    assert {"limits", "no_new_privileges", "seccomp"} <= set(layers)
    pid = running.worker_pid
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    assert len(threads) > 3
    for each in threads:
        status = dict(line.split(":\t") for line in (each / "status").read_text().splitlines())
        assert (status["NoNewPrivs"], status["Seccomp"], status["Seccomp_filters"]) == ("1", "2", "2")
    (keeper,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    held = opened(int(keeper))
    assert held == {"/dev/null", "pipe"}
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    assert "Max file size             0                    0" in limits
    assert not [name for name in opened(pid) if str(running.home.root / "keys") in name]


def _as_format(schema: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": json.loads(json.dumps(schema))}}
