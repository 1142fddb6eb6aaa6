"""Separation of duties where people and programs act: every route of the API, every page of the console."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import httpx
import pytest

from appliance.accounts.roles import Permission, allows
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import CreateAccount
from appliance.console import app as console
from appliance.core import Role
from tests.browser.rooms import PASSPHRASE
from tests.harness import Gateway
from tests.integration.test_events import ROUTES
from tests.office import Office, furnished

pytestmark = pytest.mark.integration
ASKING = {
    ("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings"), ("POST", "/v1/rerank"),
    ("POST", "/tokenize"), ("POST", "/detokenize"), ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1/responses"),
}  # fmt: skip
# Sizes, roots and whether it is whole: what runs the box must know, and nothing that is recorded.
STATE = {("GET", "/v1/audit/checkpoint"), ("GET", "/v1/audit/status")}
OWN = ("GET", "/v1/audit/proof/{seq}")  # the receipt of one's own request
READERS = {Role.AUDITOR}
PERMISSION = "permission_denied"  # Anthropic's shape of errors has no code
RUNNERS = {Role.OPERATOR, Role.ADMIN}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return furnished(tmp_path_factory.mktemp("duties") / "home", PASSPHRASE)


@pytest.fixture(scope="module")
def served(office: Office) -> Iterator[Gateway]:
    running = Gateway(office.home).start()
    try:
        for role in (Role.KIOSK, Role.DEVELOPER):
            running.key(role, stores_responses=True)
        running.wait_ready()
        yield running
    finally:
        running.stop()


def test_no_api_route_crosses_duties(served: Gateway) -> None:
    """Auditors ask nothing, who runs the box reads nothing of the record, witnesses do neither."""
    let_in: dict[tuple[str, str], set[Role]] = {}
    for role in Role:
        with served.client(role) as client:
            for method, path in ROUTES:
                body = ROUTES[method, path][0]
                address = path.replace("{name:path}", "default").replace("{seq}", "1")
                answer = client.request(method, address, json=body)
                if answer.status_code != 403:
                    let_in.setdefault((method, path), set()).add(role)
                else:
                    assert answer.json()["error"].get("code", PERMISSION) == PERMISSION
    for route, roles in let_in.items():
        if route in ASKING:
            assert roles == {Role.KIOSK, Role.DEVELOPER}, route
        elif route[1].startswith("/v1/audit") and route != OWN:
            assert roles <= READERS | {Role.PRIVACY} | (RUNNERS if route in STATE else set()), route
    assert set(let_in) >= ASKING


@contextlib.contextmanager
def seated(served: Gateway, role: Role) -> Iterator[httpx.Client]:
    """A browser of somebody with this role."""
    name = {Role.AUDITOR: "Ada Kim", Role.PRIVACY: "Paul Voss"}.get(role, "")
    words = PASSPHRASE
    if not name:
        made = served.command(CreateAccount(name=f"Some {role}", role=role, replace=True))
        name, words = made["name"], made["passphrase"]
    with httpx.Client(base_url=served.console_url, timeout=30) as client:
        client.post("/login", data={"name": name, "passphrase": words})
        if words != PASSPHRASE:
            own = {"csrf": token_of(client), "current": words, "new": PASSPHRASE, "again": PASSPHRASE}
            client.post("/passphrase", data=own)
        yield client


def token_of(client: httpx.Client) -> str:
    """The token of the session's forms."""
    return client.get("/passphrase").text.split('name="csrf" value="')[1].split('"')[0]


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN, Role.AUDITOR, Role.PRIVACY, Role.WITNESS])
def test_every_page_asks_for_its_permission(served: Gateway, role: Role) -> None:
    """A page of another role is a refusal with 403, on the record, by GET and by POST."""
    with seated(served, role) as client:
        token = token_of(client)
        wrong = []
        for route in console.ROUTES:
            permission: Permission | None = route.permission  # type: ignore[attr-defined]
            if permission is None or allows(role, permission):
                continue
            address = filled(route.path)
            for method in sorted((route.methods or set()) - {"HEAD"}):
                form = {"csrf": token} if method == "POST" else None
                answer = client.request(method, address, data=form)
                if answer.status_code != 403:
                    wrong.append((method, route.path, answer.status_code))
        assert wrong == []
    last = query.search(served.home.database, kind=Kind.REQUEST_REFUSED, limit=1)
    assert [each.public["code"] for each in last] == ["permission_denied"] or role is Role.AUDITOR


def filled(path: str) -> str:
    """An address: 0 in each place of a route's path."""
    return re.sub(r"\{[^}]*\}", "0", path)


def test_operators_pages_hold_no_content(served: Gateway) -> None:
    """Whatever page who runs the box opens: nobody's question, answer or name of a person stands there."""
    served.chat("echo: canary-4711", user="citizen-17")
    for role in sorted(RUNNERS):
        with seated(served, role) as client:
            for route in console.ROUTES:
                permission: Permission | None = route.permission  # type: ignore[attr-defined]
                if permission is None or not allows(role, permission) or "GET" not in (route.methods or ()):
                    continue
                text = client.get(filled(route.path)).text
                assert "canary-4711" not in text
                assert "citizen-17" not in text
