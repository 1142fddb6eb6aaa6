"""Documents, keys that are bound to them, and what the record says of their questions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from appliance.audit.kinds import Kind
from appliance.commands import PublishDocument
from appliance.core import Genre, Role
from appliance.terms import Terms
from tests.harness import Gateway, appliance

PROMPT: Final = "You are the lobby of the harbour office."
RULES: Final = """
[[rules]]
id = "own"
on = "both"
action = "allow"
terms = ["555-0100"]

[[rules]]
id = "phone"
on = "both"
action = "redact"
pattern = '\\b[0-9]{3}-[0-9]{4}\\b'
replacement = "[number]"

[[rules]]
id = "codename"
on = "input"
action = "refuse"
terms = ["larkspur"]
message = "Ask somebody else."

[[rules]]
id = "key"
on = "output"
action = "refuse"
pattern = 'BEGIN [A-Z]{1,9} KEY'
message = "Nothing more."

[[rules]]
id = "form"
on = "output"
action = "redact"
pattern = '\\bFORM-[0-9]{2,6}'
replacement = "[form]"

[[rules]]
id = "odd"
on = "both"
action = "flag"
terms = ["odd"]
"""


def publish(running: Gateway, genre: Genre, name: str, text: str) -> dict[str, Any]:
    return running.command(PublishDocument(document=genre, name=name, text=text))


def client_of(running: Gateway, terms: Terms, **more: Any) -> httpx.Client:
    token = running.key(Role.DEVELOPER, terms=terms, **more)
    return httpx.Client(base_url=running.url, headers={"authorization": f"Bearer {token}"}, timeout=30)


def recorded(running: Gateway, answer: httpx.Response) -> dict[Kind, Mapping[str, Any]]:
    """The contents of an exchange, as an auditor's identity opens them."""
    shown = appliance(
        "audit", "show", answer.headers["x-request-id"], "--json", "--purpose", "a test",
        "--identity", str(running.home.keys / "dev-auditor.identity"), home=running.home,
    )  # fmt: skip
    return {Kind(each["kind"]): each["content"] or {} for each in json.loads(shown.stdout)["records"]}


def code_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


USER: Final = [{"role": "user", "content": "echo: x"}]
