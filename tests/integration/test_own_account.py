"""One's own account at a real gateway: a second factor, sessions, and what is told of the time before."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway
from tests.records import assert_verified
from tests.visitor import PASSPHRASE, Visitor, code_of, routes

pytestmark = pytest.mark.integration
FACTOR = "/account/second-factor"
PAGES = {
    ("GET", "/account"), ("POST", "/account/others"), ("GET", FACTOR), ("POST", FACTOR),
    ("POST", f"{FACTOR}/confirm"), ("POST", f"{FACTOR}/recovery"),
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    toml = '[console]\nsecond_factor = ["privacy"]\n'
    with gateway(tmp_path_factory.mktemp("own") / "home", toml=toml) as running:
        yield running


def seen(running: Gateway) -> int:
    return int(query.search(running.home.database, limit=1)[0].seq)


def since(running: Gateway, seq: int) -> list[str]:
    about = ("account:", "session:", "request:refused")
    found = query.search(running.home.database, limit=200)
    return [str(e.kind) for e in reversed(found) if e.seq > seq and str(e.kind).startswith(about)]


def enter(person: Visitor, code: str = "") -> int:
    """A log-in in the same browser."""
    form = {"name": person.name, "passphrase": PASSPHRASE, "code": code}
    status = person.client.post("/login", data={**form, "csrf": person.csrf}).status_code
    first_page(person)
    return status


def first_page(person: Visitor) -> str:
    """What somebody sees after a log-in; its token is the new session's."""
    page = person.get("/passphrase").text
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    person.csrf = found[1] if found else ""
    return page


def test_no_page_of_the_account_is_forgotten() -> None:
    """Each is tried below."""
    assert {each for each in routes() if each[1].startswith("/account")} == PAGES


def test_second_factor_from_its_set_up_to_its_reset(served: Gateway) -> None:
    """Shown once, asked for from then on, each code once, codes for a lost phone, taken away by the host."""
    person = Visitor(served, Role.OPERATOR, "Ada Kim")
    before = seen(served)
    secret, recovery = person.enrol()
    assert since(served, before) == ["account:second_factor"]
    page = person.get("/account").text
    assert "10 of your recovery codes" in page
    person.post("/logout")

    before = seen(served)
    assert [enter(person), enter(person, code_of(secret))] == [HTTPStatus.UNAUTHORIZED] * 2
    form = {"name": person.name, "passphrase": PASSPHRASE, "code": code_of(secret, steps=1)}
    assert person.client.post("/login", data=form).status_code == HTTPStatus.SEE_OTHER
    assert since(served, before) == [
        "account:refused", "request:refused", "account:refused", "request:refused", "account:entered",
        "session:opened",
    ]  # fmt: skip
    told = first_page(person)
    assert "Since then: 2 wrong tries under your name" in told
    assert "2 of them with your passphrase and a wrong code" in told
    person.post("/logout")

    before = seen(served)
    assert enter(person, recovery[0].upper()) == HTTPStatus.SEE_OTHER
    fresh = person.post(f"{FACTOR}/recovery", {"passphrase": PASSPHRASE, "code": recovery[1]})
    made = re.findall(r"<li>([a-z2-9-]+)</li>", fresh.text)
    assert since(served, before) == [
        "account:entered", "session:opened", "account:second_factor", "account:second_factor",
    ]  # fmt: skip
    assert len(made) == 10
    person.post("/logout")
    assert enter(person, recovery[2]) == HTTPStatus.UNAUTHORIZED
    assert enter(person, made[0]) == HTTPStatus.SEE_OTHER

    done = appliance("account", "reset", "Ada Kim", "--second-factor", home=served.home)
    assert "sets up another second factor at the next log-in" in done.stdout
    assert person.get("/account").headers["location"] == "/login"
    assert enter(person) == HTTPStatus.SEE_OTHER
    assert person.get("/health").headers["location"] == FACTOR
    held = b"".join(path.read_bytes() for path in served.home.root.rglob("*") if path.is_file())
    assert secret not in held
    assert not [each for each in (*recovery, *made) if each.encode() in held]
    assert "Ada Kim" not in served.log_file.read_text()
    person.close()
    assert_verified(served.home)


def test_role_that_must_have_one_gets_no_other_page_before(served: Gateway) -> None:
    """After the passphrase every page leads to it; once it is set up, the first page of the role opens."""
    person = Visitor(served, Role.PRIVACY, "Paul Voss")
    for path in ("/", "/acts", "/holds", "/erasures", "/account"):
        assert person.get(path).headers["location"] == FACTOR
    assert person.post("/account/others").headers["location"] == FACTOR
    assert "Your account must have one" in person.get(FACTOR).text
    assert person.get("/passphrase").status_code == HTTPStatus.OK
    person.enrol()

    assert person.get("/acts").status_code == HTTPStatus.OK
    person.close()


def test_nothing_is_set_up_by_who_sat_down_at_an_open_session(served: Gateway) -> None:
    """The passphrase is asked for, the code where there is one, and a form without its token does nothing."""
    person = Visitor(served, Role.WITNESS, "Wim Dorn")
    before = seen(served)
    wrong = person.post(FACTOR, {"passphrase": "not the right words"})
    lost = person.post(f"{FACTOR}/confirm", {"name": "nothing", "code": "123456"})
    none = person.post(f"{FACTOR}/recovery", {"passphrase": PASSPHRASE, "code": ""})
    forged = [person.post(path, {"csrf": ""}) for method, path in sorted(PAGES) if method == "POST"]
    assert wrong.status_code == HTTPStatus.UNAUTHORIZED
    assert 'class="secret"' not in wrong.text
    assert lost.headers["location"] == FACTOR
    assert "this account has no second factor" in none.text.lower()
    assert [each.status_code for each in forged] == [HTTPStatus.FORBIDDEN] * 4
    assert since(served, before).count("request:refused") == 6
    assert "account:second_factor" not in since(served, before)

    secret, _ = person.enrol()
    for code in ("", code_of(secret)):
        again = person.post(FACTOR, {"passphrase": PASSPHRASE, "code": code})
        assert again.status_code == HTTPStatus.UNAUTHORIZED
    offered = person.post(FACTOR, {"passphrase": PASSPHRASE, "code": code_of(secret, steps=1)})
    name = re.search(r'name="name" value="([^"]+)"', offered.text)
    assert name is not None
    slip = person.post(f"{FACTOR}/confirm", {"name": name[1], "code": "12345"})
    assert slip.status_code == HTTPStatus.BAD_REQUEST
    assert 'class="secret"' in slip.text  # a slip of the finger asks for no other secret
    person.close()


def test_nobody_without_a_session_sees_an_account(served: Gateway) -> None:
    """Each page leads to the entrance."""
    nobody = Visitor(served)
    answers = [nobody.get(path) if method == "GET" else nobody.post(path) for method, path in sorted(PAGES)]
    nobody.close()

    assert {each.headers["location"] for each in answers} == {"/login"}


def test_sessions_are_listed_and_ended(served: Gateway) -> None:
    """By the person, all but the one in hand; by an admin, all; by another second factor, the others."""
    person = Visitor(served, Role.OPERATOR, "Bo Lind")
    others = [Visitor(served, name=person.name) for _ in range(2)]
    assert [enter(each) for each in others] == [HTTPStatus.SEE_OTHER] * 2
    assert person.get("/account").text.count("<td>127.0.0.1</td>") == 3
    before = seen(served)
    person.post("/account/others")
    assert [each.get("/account").headers.get("location") for each in others] == ["/login"] * 2
    assert person.get("/account").status_code == HTTPStatus.OK

    assert enter(others[0]) == HTTPStatus.SEE_OTHER
    person.enrol()
    assert others[0].get("/account").headers.get("location") == "/login"
    assert person.get("/account").status_code == HTTPStatus.OK
    admin = Visitor(served, Role.ADMIN, "Root Kim")
    (account,) = re.findall(
        r'href="/people/(p_\w+)">Change<span class="hidden"> Bo Lind', admin.get("/people").text
    )
    assert "since" in admin.get(f"/people/{account}").text
    admin.post(f"/people/{account}/sessions")
    assert person.get("/account").headers.get("location") == "/login"
    for each in (person, admin, *others):
        each.close()
    closed = query.search(served.home.database, kind=Kind.SESSION_CLOSED, limit=50)
    reasons = [each.public["reason"] for each in reversed(closed) if each.seq > before]
    assert [each for each in reasons if each != "logout"] == [
        "elsewhere",
        "elsewhere",
        "second_factor",
        "admin",
    ]


def test_waiting_is_told_truthfully(served: Gateway) -> None:
    """429 with the seconds, in the header and in words."""
    person = Visitor(served, Role.AUDITOR, "Cy Moss")
    answers = [
        person.client.post("/login", data={"name": person.name, "passphrase": "wrong", "csrf": person.csrf})
        for _ in range(6)
    ]
    person.close()
    last = answers[-1]

    assert [each.status_code for each in answers] == [401] * 5 + [429]
    assert 25 <= int(last.headers["retry-after"]) <= 30
    assert f"try again in {last.headers['retry-after']} seconds" in last.text


def test_database_file_opens_no_second_factor(served: Gateway, tmp_path: Path) -> None:
    """Its rows are there, and what is sealed in them is not the secret."""
    person = Visitor(served, Role.OPERATOR, "Di Voss")
    secret, recovery = person.enrol()
    person.close()
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(served.home.database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        rows = target.execute("SELECT sealed, recovery FROM entrance WHERE algorithm != ''").fetchall()
    data = copy.read_bytes()

    assert rows
    assert all(sealed in data and marks in data for sealed, marks in rows)
    assert secret not in data
    assert not [each for each in recovery if each.encode() in data]
