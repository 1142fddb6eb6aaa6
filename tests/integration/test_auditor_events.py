"""Each of the auditor's pages leaves exactly the records that it should, in the order of a day's work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from appliance.accounts.roles import allows
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.console.pages import auditor
from appliance.core import Role
from tests.harness import Gateway, gateway, wait_until
from tests.visitor import Visitor, routes

pytestmark = pytest.mark.integration
SURROUNDINGS = frozenset({Kind.EPOCH_OPENED, Kind.INDEX_OPENED})
WORDS = "seven purple horses sing"
WHY = {"purpose": "a review", "case": "2026-17"}
NEW = {"passphrase": WORDS, "again": WORDS}
OTHER = "eight yellow horses sing"
OPENED = [Kind.AUDIT_SEARCHED, Kind.AUDIT_RELEASED]


@dataclass
class Desk:
    """An auditor at a gateway that was asked something, and where the last pages led."""

    running: Gateway
    ada: Visitor
    led: dict[str, str] = field(default_factory=dict)  # the first word of an address → the address

    def seen(self) -> int:
        return query.search(self.running.home.database, limit=1)[0].seq

    def since(self, seq: int) -> list[Kind]:
        found = query.search(self.running.home.database, limit=100)
        return [each.kind for each in reversed(found) if each.seq > seq and each.kind not in SURROUNDINGS]

    def name(self, group: str) -> str:
        """What the session keeps a search, a reading or a text under."""
        return self.led[group].split("/")[2]

    def seq(self) -> int:
        """Of the newest exchange."""
        return query.search(self.running.home.database, kind=Kind.REQUEST_CLOSED, limit=1)[0].seq

    def saved(self) -> str:
        return str(re.findall(r'name="id" value="(s_[a-z0-9]+)"', self.ada.get("/search").text)[0])

    def identity(self) -> str:
        return (self.running.home.keys / "dev-auditor.identity").read_text()


Fill = Callable[[Desk], tuple[str, dict[str, str]]]


def plain(path: str, **fields: str) -> Fill:
    return lambda _desk: (path, fields)


def at(group: str, rest: str = "", **fields: str) -> Fill:
    return lambda desk: (f"/{group}/{desk.name(group)}{rest}", fields)


def of(path: str, **fields: str) -> Fill:
    return lambda desk: (path.format(seq=desk.seq()), fields)


# The page, what is sent to it, the records that it leaves.
STEPS: list[tuple[str, Fill, list[Kind]]] = [
    ("GET /record/{seq:int}", of("/record/{seq}"), []),  # leads to the next: nobody has said what for
    ("GET /purpose", plain("/purpose?next=/record/1"), []),
    ("POST /purpose", plain("/purpose", next="/record/1", purpose="x"), [Kind.REQUEST_REFUSED]),
    ("POST /purpose", plain("/purpose", next="/record/1", **WHY), []),
    ("GET /search", plain("/search"), []),
    ("POST /search", plain("/search", look="nothing", **WHY), [Kind.REQUEST_REFUSED]),
    ("POST /search", plain("/search", look="everything", **WHY), []),
    ("GET /search/{name}", at("search"), [Kind.AUDIT_SEARCHED, Kind.AUDIT_SEARCHED]),
    ("GET /search/{name}", at("search"), []),  # looked at again
    ("POST /search/{name}/older", at("search", "/older"), []),
    ("POST /search/{name}/save", at("search", "/save", label="mine"), [Kind.SEARCH_SAVED]),
    ("GET /search/saved/{id}", lambda desk: (f"/search/saved/{desk.saved()}", {}), []),
    ("POST /search/saved/remove", lambda desk: ("/search/saved/remove", {"id": desk.saved()}),
     [Kind.SEARCH_REMOVED]),
    ("POST /search/{name}/export", at("search", "/export", form="csv"),
     [Kind.AUDIT_SEARCHED, Kind.AUDIT_EXPORTED]),
    ("GET /search/{name}/at/{number:int}", at("search", "/at/0"), []),
    ("POST /search", plain("/search", look="exchanges", **WHY), []),
    ("GET /record/{seq:int}", of("/record/{seq}"), [Kind.AUDIT_READ]),
    ("POST /record/{seq:int}/proof", of("/record/{seq}/proof"), [Kind.AUDIT_READ]),
    ("POST /record/{seq:int}/read", of("/record/{seq}/read", **WHY), []),  # locked: to the identity's page
    ("POST /text", lambda desk: ("/text", {"search": desk.name("search"), "text": "lavender"}), []),
    ("GET /identity", plain("/identity"), []),
    ("POST /identity/store", plain("/identity/store", pasted="none", **NEW), [Kind.REQUEST_REFUSED]),
    ("POST /identity/store", lambda desk: ("/identity/store", {"pasted": desk.identity(), **NEW}),
     [Kind.IDENTITY_HOSTED]),
    ("POST /identity/unlock", plain("/identity/unlock", passphrase=OTHER),
     [Kind.IDENTITY_REFUSED, Kind.REQUEST_REFUSED]),
    ("POST /identity/second", plain("/identity/second", name="nobody", passphrase=WORDS),
     [Kind.REQUEST_REFUSED]),
    ("POST /identity/unlock", plain("/identity/unlock", passphrase=WORDS), [Kind.IDENTITY_UNLOCKED]),
    ("POST /record/{seq:int}/read", of("/record/{seq}/read", **WHY), [Kind.AUDIT_READ]),
    ("GET /reading/{name}", at("reading"), []),
    ("POST /text", lambda desk: ("/text", {"search": desk.name("search"), "text": "lavender"}), OPENED),
    ("GET /text/{name}", at("text"), []),
    ("GET /text/{name}/progress", at("text", "/progress"), []),
    ("POST /text/{name}/more", at("text", "/more"), []),  # it is over
    ("POST /text/{name}/stop", at("text", "/stop"), []),
    ("GET /evidence", plain("/evidence"), []),
    ("GET /evidence/{seq:int}", of("/evidence/{seq}"), [Kind.AUDIT_READ]),
    ("POST /evidence", lambda desk: ("/evidence", {"chosen": str(desk.seq()), "form": "opened", **WHY}),
     [Kind.AUDIT_EXPORTED]),
    ("POST /evidence", plain("/evidence", chosen="", form="proofs", **WHY), [Kind.REQUEST_REFUSED]),
    ("POST /evidence/range", plain("/evidence/range", begin="0", end="4", **WHY), [Kind.AUDIT_EXPORTED]),
    ("GET /reviews", plain("/reviews"), []),
    ("POST /reviews", plain("/reviews", begin="4", end="2"), [Kind.REQUEST_REFUSED]),
    ("POST /reviews", plain("/reviews", begin="0", end="4", note="quiet"), [Kind.AUDIT_REVIEWED]),
    ("GET /log", plain("/log"), []),
    ("GET /log/checkpoint", plain("/log/checkpoint"), []),
    ("GET /log/witness-request", plain("/log/witness-request"), []),
    ("POST /log/verify", plain("/log/verify", what="all"), [Kind.LOG_VERIFIED]),
    ("GET /log/progress", plain("/log/progress"), []),
    ("POST /identity/passphrase", plain("/identity/passphrase", current=WORDS, new=OTHER, again=OTHER),
     [Kind.IDENTITY_UNLOCKED, Kind.IDENTITY_HOSTED]),
    ("POST /identity/lock", plain("/identity/lock"), []),
    ("POST /identity/remove", plain("/identity/remove"), [Kind.IDENTITY_REMOVED]),
]  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with gateway(tmp_path / "home") as running:
        running.wait_ready()
        assert running.chat("echo: lavender", user="citizen-17").status_code == HTTPStatus.OK
        ada = Visitor(running, Role.AUDITOR)
        yield Desk(running, ada)
        ada.close()


def test_no_page_is_forgotten() -> None:
    """Whoever adds one says here what it leaves on the record."""
    found = {f"{m} {each.path}" for each in auditor.ROUTES for m in (each.methods or set()) - {"HEAD"}}

    assert found == {name for name, _, _ in STEPS}


def test_pages_leave_their_records(desk: Desk) -> None:
    """Nothing that was looked at is missing, and looking again at what was kept adds nothing."""
    wrong = {}
    for number, (name, fill, expected) in enumerate(STEPS):
        path, fields = fill(desk)
        before = desk.seen()
        answer = desk.ada.get(path) if name.startswith("GET") else desk.ada.post(path, fields)
        led = answer.headers.get("location", "")
        if led.count("/") == 2:
            desk.led[led.split("/")[1]] = led
        wait_until(lambda: len(desk.since(before)) >= len(expected), seconds=30)  # noqa: B023 - runs here
        if (found := desk.since(before)) != expected:
            wrong[f"{number} {name} {answer.status_code}"] = found

    assert wrong == {}


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN, Role.PRIVACY, Role.WITNESS])
def test_every_page_refuses_everybody_else(desk: Desk, role: Role) -> None:
    """Each is refused on the record, and nobody without a session gets further than the entrance."""
    other, nobody = Visitor(desk.running, role), Visitor(desk.running)
    answers: list[httpx.Response] = []
    for name in sorted({name for name, _, _ in STEPS}):
        method, path = name.split(" ")
        if allows(role, routes()[method, path]):
            continue  # who signs acts keeps an identity here as well
        address = re.sub(r"\{[a-z]+(:int)?\}", "1", path)
        answers.append(other.get(address) if method == "GET" else other.post(address))
        sent = nobody.get(address) if method == "GET" else nobody.post(address)
        assert sent.headers["location"] == "/login", name
    other.close()
    nobody.close()

    assert {each.status_code for each in answers} == {HTTPStatus.FORBIDDEN}


def test_forms_from_elsewhere_do_nothing(desk: Desk) -> None:
    """Without the session's token, or from another site, no form leaves anything but its refusal."""
    for name, fill, _ in STEPS:
        if name.startswith("POST") and "{name}" not in name and "saved" not in name and name != "POST /text":
            path, fields = fill(desk)
            before = desk.seen()
            for form, headers in (({"csrf": "A"}, {}), ({}, {"origin": "https://evil.example"})):
                answer = desk.ada.post(path, fields | form, headers=headers)
                assert answer.status_code == HTTPStatus.FORBIDDEN, name
            assert set(desk.since(before)) <= {Kind.REQUEST_REFUSED}, name
