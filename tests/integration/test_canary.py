"""Nothing of content or keys lies in the clear: not in files, logs, metrics, errors or output."""

from __future__ import annotations

from pathlib import Path

from appliance.config import Home
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway, question, sse

PROMPT = "zebra-quartz-8842-lantern"
ANSWER = "echo-" + PROMPT


def files_of(home: Home) -> list[Path]:
    return [path for path in home.root.rglob("*") if path.is_file() and home.models not in path.parents]


def test_canaries_are_nowhere_in_the_clear(tmp_path: Path) -> None:
    """A prompt, its answer and a key are searched in every file and every word of the appliance."""
    with gateway(tmp_path / "home") as running:
        key = running.key()
        seen = exercise(running)
        running.stop()
        appliance("db", "backup", home=running.home)
        places = {str(path): path.read_bytes() for path in files_of(running.home)}
        places["log"] = running.log_file.read_bytes()
        places["output"] = "".join(running.output).encode()
        places |= seen

        secrets = {
            "prompt": PROMPT.encode(),
            "prompt in UTF-16": PROMPT.encode("utf-16-le"),
            "key": key.encode(),
            "secret": key.rsplit("_", 1)[1].encode(),
        }
        found = [
            (place, name)
            for place, data in places.items()
            for name, value in secrets.items()
            if value in data
        ]
        assert found == []
        # The control: an auditor's tool does find it, so it was there to be found.
        shown = appliance("audit", "search", "--kind", "request:opened", "--json", home=running.home)
        assert PROMPT not in shown.stdout
        first = shown.stdout.split('"seq": ')[1].split(",")[0]
        assert PROMPT in appliance("audit", "show", first, home=running.home).stdout


def exercise(running: Gateway) -> dict[str, bytes]:
    """Every way in that carries content, good and bad; what came back outside of answers."""
    text = f"echo: {ANSWER}"
    running.chat(text)
    with running.client() as client:
        with client.stream("POST", "/v1/chat/completions", json=question(text, stream=True)) as answer:
            assert "[DONE]" in list(sse(answer.iter_lines()))
        errors = [
            client.post("/v1/chat/completions", json=question(PROMPT, temperature=PROMPT)),
            client.post("/v1/chat/completions", json=question(PROMPT) | {PROMPT: 1, "n": 5}),
            client.post("/v1/chat/completions", content=b'{"model": "' + PROMPT.encode()),
            client.post("/v1/chat/completions", json=question(PROMPT) | {"model": PROMPT}),
            client.get(f"/v1/{PROMPT}?q={PROMPT}"),
            client.post("/v1/chat/completions", json=question(f"please fail {PROMPT} say 9 tokens")),
        ]
        assert {answer.status_code // 100 for answer in errors} <= {4, 5}
    running.wait_ready()
    with running.client(Role.OPERATOR) as client:
        metrics = client.get("/metrics").content
        ready = client.get("/readyz").content
    return {
        "metrics": metrics,
        "readyz": ready,
        # An unknown parameter is named back to its own caller: that one may quote its name.
        "errors": b"".join(answer.content for answer in (errors[0], *errors[2:])),
    }
