"""Somebody at the console without a browser: what tests of many pages and many roles use."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from appliance.accounts import codes
from appliance.clock import SystemClock
from appliance.commands import CreateAccount
from appliance.console.app import ROUTES
from appliance.core import PEOPLE, Role
from tests.harness import Gateway

PASSPHRASE = "four words are enough"
_SECRET = re.compile(r'<p class="secret"[^>]*>([A-Z2-7 ]+)</p>')
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass
class Visitor:
    """One session, or none (`role` is None)."""

    gateway: Gateway
    role: Role | None = None
    name: str = ""
    client: httpx.Client = field(init=False)
    csrf: str = ""

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.gateway.console_url, timeout=30)
        if self.role is not None:
            self.name = self.name or f"visitor {self.role}"
            self._log_in(self.role)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """A page; redirects are not followed."""
        return self.client.get(path, **options)

    def post(self, path: str, form: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        """A form with this session's token, as a browser sends it."""
        headers = {"origin": self.gateway.console_url, "sec-fetch-site": "same-origin"}
        headers |= options.pop("headers", {})
        return self.client.post(path, data={"csrf": self.csrf, **(form or {})}, headers=headers, **options)

    def enrol(self) -> tuple[bytes, list[str]]:
        """Set up a second factor as a person does: the secret, and the recovery codes."""
        page = self.post("/account/second-factor", {"passphrase": PASSPHRASE}).text
        letters = _SECRET.search(page)[1].replace(" ", "")  # type: ignore[index]
        secret = base64.b32decode(letters + "=" * (-len(letters) % 8))
        name = re.search(r'name="name" value="([^"]+)"', page)[1]  # type: ignore[index]
        done = self.post("/account/second-factor/confirm", {"name": name, "code": code_of(secret)})
        assert done.status_code == HTTPStatus.OK, done.text
        return secret, re.findall(r"<li>([a-z2-9-]+)</li>", done.text)

    def close(self) -> None:
        """Without a word: the session stays."""
        self.client.close()

    def _log_in(self, role: Role) -> None:
        made = self.gateway.command(CreateAccount(name=self.name, role=role, replace=True))
        first = {"name": self.name, "passphrase": str(made["passphrase"])}
        assert self.client.post("/login", data=first).status_code == 303
        self.csrf = _CSRF.search(self.client.get("/passphrase").text)[1]  # type: ignore[index]
        change = {"current": first["passphrase"], "new": PASSPHRASE, "again": PASSPHRASE}
        assert self.post("/passphrase", change).status_code == 303
        self.csrf = _CSRF.search(self.client.get("/passphrase").text)[1]  # type: ignore[index]


def code_of(secret: bytes, *, steps: int = 0) -> str:
    """What an authenticator shows now, or so many half minutes later."""
    return codes.code_at(secret, "sha1", codes.step_of(SystemClock().now_us()) + steps)


def of_every_role(gateway: Gateway) -> dict[Role, Visitor]:
    """One visitor for each role that people have."""
    return {role: Visitor(gateway, role) for role in PEOPLE}


def routes() -> dict[tuple[str, str], Any]:
    """(method, path) → the permission that it needs, for every page of the console."""
    return {
        (method, each.path): each.permission  # type: ignore[attr-defined]
        for each in ROUTES
        for method in sorted(set(each.methods or ()) - {"HEAD"})
    }
