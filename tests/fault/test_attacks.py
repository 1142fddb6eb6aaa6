"""Keys that open nothing, on every route of the API: generated from the routes themselves, so that a new
route is attacked as soon as it is there.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from appliance.accounts import keys
from appliance.accounts.directory import Directory
from appliance.accounts.roles import allows
from appliance.api import app, openapi
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.commands import CreateKey, RevokeKey
from appliance.core import Role
from appliance.errors import Refused
from appliance.terms import Terms
from tests import wire
from tests.harness import Gateway, gateway, wait_until

pytestmark = pytest.mark.integration
OPEN = {"/healthz"}
# Written by themselves beside an act.
SURROUNDINGS = frozenset({Kind.EPOCH_OPENED, Kind.INDEX_OPENED, Kind.LOG_HEARTBEAT, Kind.LOG_ALARM})


def routes() -> list[tuple[str, str, APIRoute]]:
    """(method, path, route): every one that the application has, in the document or not."""
    made = openapi.routes_of(app.create_routes())
    return [(method, each.path, each) for each in made for method in sorted(each.methods or ())]


ROUTES = [each for each in routes() if each[1] not in OPEN]
each_route = pytest.mark.parametrize(
    ("method", "path", "route"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES]
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(
        tmp_path_factory.mktemp("attacks") / "home", toml="[audit]\nrefusal_burst = 10000\n"
    ) as started:
        started.wait_ready()
        yield started


@pytest.fixture(scope="module")
def bad_keys(running: Gateway) -> dict[str, str]:
    """Tokens of an admin's rank, none of which is good any more, or ever was."""
    good = running.key(Role.ADMIN)
    head, number, secret = good.split("_")
    expired = str(running.command(CreateKey(name="over", role=Role.ADMIN, expires_seconds=1))["token"])
    revoked = running.command(CreateKey(name="gone", role=Role.ADMIN))
    running.command(RevokeKey(name_or_id=str(revoked["id"])))
    with running.client(None) as client:
        wait_until(lambda: client.get("/v1/models", headers=bearer(expired)).status_code == 401)
    return {
        "none": "",
        "malformed": "apk_no",
        "another's form": "sk-proj-" + "A" * 40,
        "unknown id": f"{head}_{'a' * len(number)}_{secret}",
        "wrong secret": f"{head}_{number}_{'a' * len(secret)}",
        "half a secret": good[:-1],
        "in capitals": good.upper(),
        "with a NUL": good + "%00",
        "expired": expired,
        "revoked": str(revoked["token"]),
    }


def address(path: str) -> str:
    """With something in each of its places."""
    return re.sub(r"\{[^}]+\}", "1", path)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def ask(running: Gateway, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """The route with something in each of its places, and a body that no route reads."""
    with running.client(None, headers=headers) as client:
        return client.request(method, address(path), content=b"{}")


def newest(running: Gateway) -> int:
    return query.search(running.home.database, limit=1)[0].seq


def since(running: Gateway, seq: int) -> list[Record]:
    """What was written behind an entry, in order, but for what the log writes by itself."""
    found = query.search(running.home.database, limit=1000)
    return sorted(
        (each for each in found if each.seq > seq and each.kind not in SURROUNDINGS),
        key=lambda each: each.seq,
    )


def assert_refused(running: Gateway, answers: list[httpx.Response], seq: int, status: int, code: str) -> None:
    """Each in the documented shape and on the record, and nothing else has happened."""
    assert {each.status_code for each in answers} == {status}
    assert {code_of(each) for each in answers} == {code}
    records = since(running, seq)
    assert [each.kind for each in records] == [Kind.REQUEST_REFUSED] * len(answers)
    assert [each.request_id for each in records] == [each.headers["x-request-id"] for each in answers]
    assert {(each.public["status"], each.public["code"]) for each in records} == {(status, code)}


def code_of(answer: httpx.Response) -> Any:
    """The code in either of the two shapes, neither of which repeats anything."""
    body = answer.json()
    error = body["error"]
    assert set(body) <= {"error", "type", "request_id"}
    return error["code"] if "code" in error else error["details"]["error_code"]


def test_every_route_is_attacked() -> None:
    """The application answers nothing beside the routes of the document."""
    made = {(method, each.path) for method, _, each in routes()}
    paths = {getattr(each, "path", None) for each in app.create_routes().routes}

    assert len(made) > 25
    assert {path for path in paths if path is not None} <= {path for _, path in made}


@each_route
def test_a_key_that_opens_nothing(
    running: Gateway, bad_keys: dict[str, str], method: str, path: str, route: APIRoute
) -> None:
    """Missing, malformed, unknown, wrong, expired or revoked: 401 with one and the same message."""
    seq = newest(running)
    answers = [ask(running, method, path, bearer(token)) for token in bad_keys.values()]

    assert_refused(running, answers, seq, 401, "invalid_api_key")
    assert len({each.text.replace(each.headers["x-request-id"], "") for each in answers[1:]}) == 1
    assert not any(token and token in each.text for token in bad_keys.values() for each in answers)
    assert openapi.permission_of(route) is not None


@each_route
def test_a_key_of_another_role(running: Gateway, method: str, path: str, route: APIRoute) -> None:
    """403 for each role that the route is not for."""
    permission = openapi.permission_of(route)
    assert permission is not None
    others = [role for role in Role if not allows(role, permission)]
    tokens = [running.key(role) for role in others]
    seq = newest(running)
    answers = [ask(running, method, path, bearer(token)) for token in tokens]

    if others:  # some routes are everybody's who has a key
        assert_refused(running, answers, seq, 403, "permission_denied")


@each_route
def test_a_key_from_another_address(running: Gateway, method: str, path: str, route: APIRoute) -> None:
    """Right in every other way, and shown from where it may not be."""
    permission = openapi.permission_of(route)
    assert permission is not None
    role = next(role for role in Role if allows(role, permission))
    token = elsewhere(running, role)
    seq = newest(running)

    assert_refused(running, [ask(running, method, path, bearer(token))], seq, 403, "address_not_allowed")


PLACES = ["?api_key={}", "?key={}", "?token={}", "?x={}", "?x=1&access_token={}"]


@each_route
def test_a_key_in_the_address(running: Gateway, method: str, path: str, route: APIRoute) -> None:
    """Refused although it is right, also beside a right one in a header: it stands in a log by now."""
    permission = openapi.permission_of(route)
    assert permission is not None
    token = running.key(next(role for role in Role if allows(role, permission)))
    seq = newest(running)
    addresses = [path + place.format(token) for place in PLACES]
    answers = [ask(running, method, each, headers) for each in addresses for headers in ({}, bearer(token))]

    assert_refused(running, answers, seq, 400, "key_in_url")
    assert not any(token in each.text or token[:14] in each.text for each in answers)
    assert token.split("_")[2] not in running.log_file.read_text()


TRICKS = (
    "//{}",
    "/./{}",
    "/x/../{}",
    "/{}/",
    "/{}/.",
    "/{}.",
    "/{};a=b",
    "/{}%00",
    "/%2e/{}",
    "/{}%20",
)


@each_route
def test_a_path_that_is_almost_one(running: Gateway, method: str, path: str, route: APIRoute) -> None:
    """404, or the method or the name that is not there; never the route beside its permission."""
    permission = openapi.permission_of(route)
    assert permission is not None
    token = running.key(next((role for role in Role if not allows(role, permission)), Role.KIOSK))
    plain = address(path).removeprefix("/")
    hidden = ["/" + plain.replace("/", "%2f", 1), "/" + plain.upper(), f"/%{ord(plain[0]):x}{plain[1:]}"]
    for target in {*(trick.format(plain) for trick in TRICKS), *hidden} - {f"/{plain}"}:
        seq = newest(running)
        (answer,) = wire.send(running.url, wire.request(method, target, key=token))
        (nobody,) = wire.send(running.url, wire.request(method, target))
        # A name may be anything; then it is the role that is wrong.
        expected = {403, 404, 405} if target.startswith("/v1/models/") or "{" in path else {404, 405}
        assert answer.status in expected, (target, answer)
        assert nobody.status == 401, target
        assert [each.kind for each in since(running, seq)] == [Kind.REQUEST_REFUSED] * 2


@each_route
def test_a_method_that_no_route_takes(running: Gateway, method: str, path: str, route: APIRoute) -> None:
    """HEAD, OPTIONS, TRACE and PATCH do nothing, and TRACE echoes nothing."""
    permission = openapi.permission_of(route)
    assert permission is not None
    token = running.key(next(role for role in Role if allows(role, permission)))
    for other in ("HEAD", "OPTIONS", "TRACE", "PATCH", "PUT"):
        seq = newest(running)
        answer = ask(running, other, path, bearer(token))
        assert answer.status_code == 405, (method, other)
        assert token not in answer.text
        assert [each.public["code"] for each in since(running, seq)] == ["method_not_allowed"]


def test_the_check_of_a_key_does_the_same_work_for_every_flaw(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown id is compared as a known one is: time does not tell which ids there are."""
    made = keys.generate("lobby", Role.KIOSK, now_us=0)
    directory = Directory([made.key])
    calls: list[int] = []

    def compared(one: bytes, other: bytes) -> bool:
        calls.append(len(one) + len(other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compared)
    head, number, secret = made.token.split("_")
    for token in (f"{head}_{'a' * len(number)}_{secret}", f"{head}_{number}_{'a' * len(secret)}"):
        with pytest.raises(Refused):
            directory.authenticate(token, now_us=1)

    assert calls == [64, 64]


_ELSEWHERE: dict[tuple[int, Role], str] = {}


def elsewhere(running: Gateway, role: Role) -> str:
    """A key that may be used from a network of documentation only (RFC 5737)."""
    at = (running.pid, role)
    if at not in _ELSEWHERE:
        _ELSEWHERE[at] = running.key(role, terms=Terms(addresses=("192.0.2.0/24",)))
    return _ELSEWHERE[at]
