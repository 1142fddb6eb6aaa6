"""A day of an appliance, as machines in its LAN see it: every route of the API, every page of the console.

`python -m tests.fault.life HOME API CONSOLE` tells the status of each as JSON. Keys and accounts come over
the control socket: it lies in the file system, which is no network.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

from appliance.config import Home
from appliance.core import Role
from tests.harness import Gateway, question, sse, stored_response
from tests.integration.test_events import ROUTES
from tests.visitor import of_every_role, routes

TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
# A model that is none of ours may go on and on.
SHORT: dict[str, dict[str, int]] = {
    "/v1/chat/completions": {"max_tokens": 8},
    "/v1/completions": {"max_tokens": 8},
    "/v1/responses": {"max_output_tokens": 16},
}
WRONG = ("/v1/nothing", "/v1/models/nobody")


def main(home: Path, api: str, console: str) -> None:
    """Ask everything, and say what came of it."""
    running = Gateway(home=Home(root=home), url=api, console_url=console)
    running.key(Role.KIOSK, stores_responses=True)
    told: Counter[str] = Counter()
    _ask_every_route(running, told)
    _ask_otherwise(running, told)
    _look_at_every_page(running, told)
    sys.stdout.write(json.dumps(told))


def _ask_every_route(running: Gateway, told: Counter[str]) -> None:
    stored = stored_response(running, "echo: x", **SHORT["/v1/responses"])
    known = {"response_id": stored, "name:path": "default", "seq": "1"}
    for (method, path), (body, role, _records) in ROUTES.items():
        if path.startswith("/v1/responses/{response_id}") and method == "DELETE":
            continue  # last
        asked = re.sub(r"\{([^}]+)\}", lambda match: known[match[1]], path)
        short = body and {**body, **SHORT.get(path, {})}
        with running.client(role) as client:
            told[f"{method} {path} {client.request(method, asked, json=short).status_code}"] += 1
    with running.client() as client:
        told[f"deleted {client.delete(f'/v1/responses/{stored}').status_code}"] += 1


def _ask_otherwise(running: Gateway, told: Counter[str]) -> None:
    """Streams, tools, and what is refused."""
    with running.client() as client:
        body = question("echo: streamed", stream=True, max_tokens=8)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            told[f"streamed {list(sse(answer.iter_lines()))[-1]}"] += 1
        asked = question("echo: x", tools=[TOOL], max_tokens=8)
        told[f"tools {client.post('/v1/chat/completions', json=asked).status_code}"] += 1
        for path in WRONG:
            told[f"wrong {client.get(path).status_code}"] += 1
    with running.client(None) as nobody:
        told[f"nobody {nobody.get('/v1/models').status_code}"] += 1


def _look_at_every_page(running: Gateway, told: Counter[str]) -> None:
    people = of_every_role(running)
    for method, path in routes():
        if method != "GET":
            continue
        for visitor in people.values():
            status = visitor.get(re.sub(r"\{[^}]+\}", "1", path)).status_code
            told[f"page {status // 100}xx"] += 1
    for each in people.values():
        each.post("/logout")
        each.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
