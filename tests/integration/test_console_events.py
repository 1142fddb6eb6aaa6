"""Every page of the console leaves exactly the record that it should: for whom it is, for others, for nobody.

The table names each page once, as `test_events.py` does for routes and commands. A page that is missing here,
or one that does not exist any more, fails the first test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import pytest

from appliance.accounts.roles import allows
from appliance.audit import blind, query
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.clock import SystemClock
from appliance.commands import CreateAccount, CreateKey, ListAccounts, PublishDocument
from appliance.core import Genre, Role
from tests.harness import Gateway, appliance, gateway, wait_until
from tests.visitor import PASSPHRASE, Visitor, of_every_role, routes

pytestmark = pytest.mark.integration
# Written by themselves beside an act.
SURROUNDINGS = frozenset({Kind.EPOCH_OPENED, Kind.INDEX_OPENED})
ENTRANCE = {"/", "/login", "/logout", "/passphrase"}
OWN = ("/account",)  # everybody's own: test_own_account
ACTS = ("/acts", "/erasures", "/holds")  # a day's work of two people: test_privacy_events
AUDIT = (  # an auditor's day: test_auditor_events
    "/search", "/purpose", "/record", "/reading", "/text", "/evidence", "/reviews", "/log", "/identity",
)  # fmt: skip
LOBBY = {"/kiosk", "/kiosk/state", "/kiosk/ask", "/kiosk/leave"}  # everybody's: test_lobby.py


@dataclass
class Stage:
    """A gateway, somebody of each role, and things to act on."""

    running: Gateway
    folder: Path
    people: Mapping[Role, Visitor]
    num_made: int = 0
    secrets: list[str] = field(default_factory=list)

    def key(self) -> str:
        """The id of a fresh API key."""
        self.num_made += 1
        made = self.running.command(CreateKey(name=f"desk-{self.num_made}", role=Role.KIOSK))
        self.secrets.append(str(made["token"]))
        return str(made["id"])

    def screen(self) -> dict[str, str]:
        """The operator's browser holds a fresh kiosk's key."""
        self.key()
        self.people[Role.OPERATOR].client.cookies.set("kiosk", self.secrets[-1])
        return {}

    def account(self) -> str:
        """The id of a fresh account."""
        self.num_made += 1
        name = f"somebody {self.num_made}"
        return str(self.running.command(CreateAccount(name=name, role=Role.OPERATOR))["id"])

    def answer(self) -> str:
        """What a pinned witness says of the newest checkpoint."""
        request, answer = str(self.folder / "request.txt"), str(self.folder / "answer.txt")
        home = self.running.home
        appliance("audit", "witness", "export", "--out", request, home=home)
        appliance("audit", "witness", "cosign", request, "--key", str(self.folder / "w.witness"), "--log",
                  str(home.keys / "log.vkey"), "--out", answer)  # fmt: skip
        return Path(answer).read_text()

    def seen(self) -> int:
        return query.search(self.running.home.database, limit=1)[0].seq

    def since(self, seq: int) -> list[Record]:
        """What was written behind an entry, in order."""
        found = query.search(self.running.home.database, limit=1000)
        return [each for each in reversed(found) if each.seq > seq and each.kind not in SURROUNDINGS]


Words = Callable[[Stage], dict[str, str]]


@dataclass(frozen=True)
class Case:
    """What somebody of a role does on a page, and what it leaves."""

    role: Role
    expected: tuple[Kind, ...] = ()
    form: Words = lambda _stage: {}
    ids: Words = lambda _stage: {}


def _form(**fields: str) -> Words:
    return lambda _stage: fields


def _hall(stage: Stage) -> dict[str, str]:
    stage.num_made += 1
    return {"name": f"hall-{stage.num_made}", "lifetime": "90"}


def _key(stage: Stage) -> dict[str, str]:
    return {"key_id": stage.key()}


def _document(stage: Stage) -> dict[str, str]:
    stage.num_made += 1
    name = f"prompt-{stage.num_made}"
    for text in ("First.", "Second."):
        stage.running.command(PublishDocument(document=Genre.PROMPT, name=name, text=text))
    return {"genre": "prompt", "reference": f"{name}@2"}


def _token(stage: Stage) -> dict[str, str]:
    stage.key()
    return {"key": stage.secrets[-1]}


def _account(stage: Stage) -> dict[str, str]:
    return {"account_id": stage.account()}


def _enrolled(stage: Stage) -> dict[str, str]:
    stage.num_made += 1
    person = Visitor(stage.running, Role.OPERATOR, f"somebody {stage.num_made}")
    person.enrol()
    person.post("/logout")
    person.close()
    accounts = stage.running.command(ListAccounts())["accounts"]
    return {"account_id": next(each["id"] for each in accounts if each["name"] == person.name)}


# (method, path) → a case. The entrance is below: it opens and ends sessions.
PAGES: Mapping[tuple[str, str], Case] = {
    ("GET", "/health"): Case(Role.OPERATOR),
    ("GET", "/health/now"): Case(Role.OPERATOR),
    ("GET", "/keys"): Case(Role.OPERATOR),
    ("POST", "/keys"): Case(Role.OPERATOR, (Kind.KEY_CREATED,), _form(name="lobby", role="kiosk", days="90")),
    ("GET", "/keys/{key_id}"): Case(Role.OPERATOR, ids=_key),
    ("POST", "/keys/{key_id}"): Case(Role.OPERATOR, (Kind.KEY_CHANGED,), _form(priority="3"), ids=_key),
    ("POST", "/keys/{key_id}/rotate"): Case(
        Role.OPERATOR, (Kind.KEY_CREATED, Kind.KEY_ROTATED), _form(overlap="86400", days="same"), ids=_key
    ),
    ("GET", "/documents"): Case(Role.OPERATOR),
    ("GET", "/models"): Case(Role.OPERATOR),
    ("GET", "/documents/{genre}/{reference}"): Case(Role.OPERATOR, ids=_document),
    ("GET", "/keys/{key_id}/revoke"): Case(Role.OPERATOR, ids=_key),
    ("POST", "/keys/{key_id}/revoke"): Case(Role.OPERATOR, (Kind.KEY_REVOKED,), ids=_key),
    ("GET", "/storage"): Case(Role.OPERATOR),
    ("POST", "/storage/backup"): Case(
        Role.OPERATOR, (Kind.DATABASE_BACKED_UP, Kind.SHARES_BACKED_UP, Kind.BOX_BACKED_UP)
    ),
    ("GET", "/people"): Case(Role.ADMIN),
    ("POST", "/people"): Case(
        Role.ADMIN, (Kind.ACCOUNT_CREATED,), _form(name="Dan Roe", role="privacy", days="365")
    ),
    ("GET", "/people/{account_id}"): Case(Role.ADMIN, ids=_account),
    ("POST", "/people/{account_id}/reset"): Case(Role.ADMIN, (Kind.ACCOUNT_CHANGED,), ids=_account),
    ("POST", "/people/{account_id}/second-factor"): Case(
        Role.ADMIN, (Kind.ACCOUNT_SECOND_FACTOR,), ids=_enrolled
    ),
    ("POST", "/people/{account_id}/sessions"): Case(Role.ADMIN, ids=_account),
    ("POST", "/people/{account_id}/disable"): Case(Role.ADMIN, (Kind.ACCOUNT_CHANGED,), ids=_account),
    ("GET", "/kiosk/setup"): Case(Role.OPERATOR),
    ("POST", "/kiosk/setup/create"): Case(Role.OPERATOR, (Kind.KEY_CREATED, Kind.SCREEN_ENROLLED), _hall),
    ("POST", "/kiosk/setup/paste"): Case(Role.OPERATOR, (Kind.SCREEN_ENROLLED,), _token),
    ("POST", "/kiosk/setup/remove"): Case(
        Role.OPERATOR,
        (Kind.SCREEN_REMOVED, Kind.KEY_REVOKED),
        lambda stage: stage.screen() | {"revoke": "yes"},
    ),
    ("GET", "/witness"): Case(Role.WITNESS),
    ("GET", "/witness/request"): Case(Role.WITNESS),
    ("POST", "/witness"): Case(
        Role.WITNESS, (Kind.WITNESS_COSIGNED,) * 2, lambda stage: {"text": stage.answer()}
    ),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("pages")
    with gateway(folder / "home") as running:
        appliance("audit", "witness", "keygen", "w", "--out", str(folder))
        appliance("audit", "witness", "add", str(folder / "w.vkey"), home=running.home)
        people = of_every_role(running)
        yield Stage(running, folder, people)
        for each in people.values():
            each.close()


def test_no_page_is_forgotten() -> None:
    """Whoever adds a page says here what it leaves on the record."""
    others = (*ACTS, *AUDIT, *OWN)
    told = {each for each in routes() if each[1] not in ENTRANCE | LOBBY and not each[1].startswith(others)}
    assert told == set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_page_leaves_its_record(stage: Stage, page: tuple[str, str]) -> None:
    """Done by whom it is for, it leaves what the table says, and names who did it."""
    method, path = page
    case = PAGES[page]
    person = stage.people[case.role]
    form, address = case.form(stage), path.format(**case.ids(stage))
    before = stage.seen()

    answer = person.get(address) if method == "GET" else person.post(address, form)

    assert answer.status_code in {HTTPStatus.OK, HTTPStatus.SEE_OTHER}, answer.text
    wait_until(lambda: len(stage.since(before)) >= len(case.expected))
    left = stage.since(before)
    assert [each.kind for each in left] == list(case.expected)
    acts = [each for each in left if each.kind not in {Kind.SHARES_BACKED_UP, Kind.BOX_BACKED_UP}]
    if method == "POST":
        blinded = _blind(stage, person).hex()
        assert [each.header.bi["key"] for each in acts if each.header.bi] == [blinded] * len(acts)


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_page_refuses_everybody_else(stage: Stage, page: tuple[str, str]) -> None:
    """Each other role is refused, nobody is sent to the entrance, and both stand on the record."""
    method, path = page
    permission = routes()[page]
    address = path.format(**PAGES[page].ids(stage))
    wrong = [role for role in stage.people if not allows(role, permission)]
    nobody = Visitor(stage.running)
    before = stage.seen()

    for role in wrong:
        person = stage.people[role]
        answer = person.get(address) if method == "GET" else person.post(address)
        assert answer.status_code == HTTPStatus.FORBIDDEN
        assert answer.headers["cache-control"] == "no-store"
    answer = nobody.get(address) if method == "GET" else nobody.post(address)
    nobody.close()
    assert (answer.status_code, answer.headers["location"]) == (HTTPStatus.SEE_OTHER, "/login")

    expected = {"permission_denied": len(wrong), "not_logged_in": 1}
    wait_until(lambda: _refused(stage, before, path) == expected)
    assert {each.kind for each in stage.since(before)} == {Kind.REQUEST_REFUSED}


FORGED: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
    "without the token": ({"csrf": ""}, {}),
    "with another session's token": ({"csrf": "A" * 32}, {}),
    "from another origin": ({}, {"origin": "https://evil.example"}),
    "from an opaque origin": ({}, {"origin": "null"}),
    "from another site": ({}, {"sec-fetch-site": "cross-site"}),
    "from a neighbour of the host": ({}, {"sec-fetch-site": "same-site"}),
}


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("page", [each for each in PAGES if each[0] == "POST"], ids=" ".join)
def test_form_from_elsewhere_does_nothing(stage: Stage, page: tuple[str, str], forged: str) -> None:
    """A form that no page of this session sent is refused and recorded, however good the rest of it is."""
    case = PAGES[page]
    fields, headers = FORGED[forged]
    address = page[1].format(**case.ids(stage))
    form = {} if page[1] == "/witness" else case.form(stage)
    before = stage.seen()

    answer = stage.people[case.role].post(address, form | fields, headers=headers)

    assert answer.status_code == HTTPStatus.FORBIDDEN
    wait_until(lambda: _refused(stage, before, page[1]) == {"cross_site": 1})
    assert {each.kind for each in stage.since(before)} == {Kind.REQUEST_REFUSED}


def test_entrance_leaves_its_record(tmp_path: Path) -> None:
    """In, a passphrase of one's own, out: each on the record, and a wrong passphrase too."""
    with gateway(tmp_path / "home") as running:
        stage = Stage(running, tmp_path, {})
        running.wait_ready()
        before = stage.seen()
        person = Visitor(running, Role.OPERATOR)
        person.post("/logout")
        wrong = person.client.post("/login", data={"name": person.name, "passphrase": PASSPHRASE + "!"})
        assert wrong.status_code == HTTPStatus.UNAUTHORIZED
        person.close()

        assert [each.kind for each in stage.since(before)] == [
            Kind.ACCOUNT_CREATED,
            Kind.ACCOUNT_ENTERED,
            Kind.SESSION_OPENED,
            Kind.ACCOUNT_CHANGED,
            Kind.SESSION_CLOSED,
            Kind.SESSION_OPENED,
            Kind.SESSION_CLOSED,
            Kind.ACCOUNT_REFUSED,
            Kind.REQUEST_REFUSED,
        ]


def _refused(stage: Stage, before: int, path: str) -> dict[str, int]:
    """How often by code, one by one or counted."""
    found: dict[str, int] = {}
    for each in stage.since(before):
        if each.kind is Kind.REQUEST_REFUSED:
            assert each.public["route"] == path
            code = str(each.public["code"])
            found[code] = found.get(code, 0) + int(each.public["count"])
    return found


def _blind(stage: Stage, person: Visitor) -> bytes:
    """What stands for an account in this month's entries."""
    home = stage.running.home
    accounts = stage.running.command(ListAccounts())["accounts"]
    found = next(each["id"] for each in accounts if each["name"] == person.name and not each["disabled_us"])
    month = blind.month_of(SystemClock().now_us())
    key = blind.existing_key(home, month)
    assert key is not None
    return key.blind("key", found)
