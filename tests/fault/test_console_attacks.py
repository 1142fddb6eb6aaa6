"""Pages and forms that are not somebody's, on every route of the console: generated from its routes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from appliance.accounts.roles import Permission, allows
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.core import PEOPLE, Role
from tests.fault.test_attacks import SURROUNDINGS
from tests.harness import Gateway, gateway
from tests.visitor import Visitor, of_every_role, routes

pytestmark = pytest.mark.integration
GUARDED = {at: permission for at, permission in routes().items() if permission is not None}
FORMS = {at: permission for at, permission in GUARDED.items() if at[0] == "POST"}


def each_of(found: dict[tuple[str, str], Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("at", "permission"), list(found.items()), ids=[f"{method} {path}" for method, path in found]
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    toml = "[audit]\nrefusal_burst = 10000\n"
    with gateway(tmp_path_factory.mktemp("pages") / "home", toml=toml) as started:
        yield started


@pytest.fixture(scope="module")
def people(running: Gateway) -> Iterator[dict[Role, Visitor]]:
    made = of_every_role(running)
    yield made
    for each in made.values():
        each.close()


def newest(running: Gateway) -> int:
    return query.search(running.home.database, limit=1)[0].seq


def since(running: Gateway, seq: int) -> list[Record]:
    found = query.search(running.home.database, limit=1000)
    return [each for each in found if each.seq > seq and each.kind not in SURROUNDINGS]


def address(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "1", path)


def assert_refused(running: Gateway, answer: httpx.Response, seq: int, status: int, code: str) -> None:
    """Told, on the record, and nothing else has happened."""
    assert answer.status_code == status, answer.text
    records = since(running, seq)
    assert [(each.kind, each.public["status"], each.public["code"]) for each in records] == [
        (Kind.REQUEST_REFUSED, status, code)
    ]


@each_of(GUARDED)
def test_without_a_session(running: Gateway, at: tuple[str, str], permission: Permission) -> None:
    """On to the log-in, whatever cookie is shown: none, one made up, an API key."""
    assert permission
    for cookie in ("", "made-up", "0" * 64, running.key()):
        with httpx.Client(
            base_url=running.console_url, cookies={"session": cookie} if cookie else {}
        ) as client:
            seq = newest(running)
            answer = client.request(at[0], address(at[1]))
        assert_refused(running, answer, seq, 303, "not_logged_in")
        assert answer.headers["location"] == "/login"


@each_of(GUARDED)
def test_with_another_role(
    running: Gateway, people: dict[Role, Visitor], at: tuple[str, str], permission: Permission
) -> None:
    """403 for each role that the page is not for, with a form that is otherwise right."""
    for role in PEOPLE:
        if allows(role, permission):
            continue
        visitor = people[role]
        seq = newest(running)
        ask = visitor.post if at[0] == "POST" else visitor.get
        assert_refused(running, ask(address(at[1])), seq, 403, "permission_denied")


@each_of(FORMS)
def test_with_a_form_that_no_page_of_ours_sent(
    running: Gateway, people: dict[Role, Visitor], at: tuple[str, str], permission: Permission
) -> None:
    """Without the session's token, with another's, from another site or another origin: 403."""
    visitor = people[next(role for role in PEOPLE if allows(role, permission))]
    other = next(each for each in people.values() if each is not visitor)
    own = running.console_url
    for form, headers in (
        ({"csrf": ""}, {}),
        ({"csrf": other.csrf}, {}),
        ({}, {"sec-fetch-site": "cross-site"}),
        ({}, {"sec-fetch-site": "same-site"}),
        ({}, {"origin": "https://elsewhere.example"}),
        ({}, {"origin": "null"}),
        ({}, {"origin": own, "host": "elsewhere.example"}),
    ):
        seq = newest(running)
        answer = visitor.post(address(at[1]), form, headers=headers)
        assert_refused(running, answer, seq, 403, "cross_site")
