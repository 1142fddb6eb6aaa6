"""Pages of the entrance and of the privacy officer leave exactly the records that the catalogue promises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from appliance.audit import acts, query
from appliance.audit.kinds import Kind
from appliance.console.pages import acts as acts_pages
from appliance.console.pages import entrance, erasures, holds
from tests.browser.rooms import PASSPHRASE
from tests.harness import Gateway
from tests.office import Office, furnished

pytestmark = pytest.mark.integration
SURROUNDINGS = frozenset(
    {Kind.EPOCH_OPENED, Kind.INDEX_OPENED, Kind.LOG_STARTED, Kind.MODEL_LOADED, Kind.CONFIG_CHANGED}
)
OWN_WORDS = "five words are more than enough"
LOOK = {"user": "citizen-17", "key": "", "since": "", "until": "", "reason": "r", "basis": "b"}
SIGN = {"passphrase": PASSPHRASE, "read": "yes"}


@dataclass
class Desk:
    """Two browsers at one gateway, and what they have seen last."""

    running: Gateway
    office: Office
    paul: httpx.Client
    ada: httpx.Client
    at: str = ""  # where the last form led to

    def seen(self) -> int:
        return int(query.search(self.running.home.database, limit=1)[0].seq)

    def since(self, seq: int) -> list[Kind]:
        found = query.search(self.running.home.database, limit=100)
        return [each.kind for each in reversed(found) if each.seq > seq and each.kind not in SURROUNDINGS]

    def act(self) -> str:
        return self.at.removeprefix("/acts/")

    def hold(self) -> str:
        return str(re.findall(r'action="/holds/([0-9a-f]{16})/lift"', self.paul.get("/holds").text)[0])


Fill = Callable[[Desk], tuple[str, dict[str, str] | None]]


def plain(path: str, **fields: str) -> Fill:
    return lambda _desk: (path, fields)


def act(verb: str, **fields: str) -> Fill:
    return lambda desk: (f"/acts/{desk.act()}{verb}", fields)


def _signed_file(desk: Desk) -> tuple[str, dict[str, str] | None]:
    note = acts.parse(desk.paul.get(f"/acts/{desk.act()}/file").text).signed_by(desk.office.auditor).note()
    return "/acts/upload", {"file:act": note}


# route, what fills it, whose browser, the records that it leaves
STEPS: list[tuple[str, Fill, str, list[Kind]]] = [
    ("GET /", plain("/"), "paul", []),
    ("GET /login", plain("/login"), "paul", []),
    ("POST /login", plain("/login", name="Paul Voss", passphrase=PASSPHRASE), "paul",
     [Kind.ACCOUNT_ENTERED, Kind.SESSION_OPENED]),
    ("POST /login", plain("/login", name="Ada Kim", passphrase=PASSPHRASE), "ada",
     [Kind.ACCOUNT_ENTERED, Kind.SESSION_OPENED]),
    ("GET /passphrase", plain("/passphrase"), "paul", []),
    ("GET /erasures", plain("/erasures"), "paul", []),
    ("POST /erasures/look", plain("/erasures/look", **LOOK), "paul", [Kind.AUDIT_SEARCHED]),
    ("GET /erasures/{name}", lambda desk: (desk.at, None), "paul", []),
    ("POST /erasures/draft", lambda desk: ("/erasures/draft", {"look": desk.at.rpartition("/")[2]}), "paul",
     [Kind.ACT_DRAFTED]),
    ("GET /acts/{id}", act(""), "paul", []),
    ("GET /acts/{id}/file", act("/file"), "paul", []),
    ("POST /acts/{id}/sign", act("/sign", **SIGN), "paul", [Kind.IDENTITY_UNLOCKED, Kind.ACT_SIGNED]),
    ("POST /holds/place", plain("/holds/place", user="citizen-17", key="", since="", until="", reason="r"),
     "paul", [Kind.HOLD_PLACED]),
    ("GET /holds", plain("/holds"), "paul", []),
    # The hold is in the way: it is signed, and not carried out.
    ("POST /acts/{id}/sign", act("/sign", **SIGN), "ada",
     [Kind.IDENTITY_UNLOCKED, Kind.ACT_SIGNED, Kind.REQUEST_REFUSED]),
    ("POST /acts/{id}/carry-out", act("/carry-out"), "ada", [Kind.REQUEST_REFUSED]),
    ("POST /acts/{id}/withdraw", act("/withdraw", reason="r"), "ada", [Kind.ACT_CLOSED]),
    ("POST /holds/{id}/lift", lambda desk: (f"/holds/{desk.hold()}/lift", {"reason": "r"}), "paul",
     [Kind.ACT_DRAFTED]),
    ("POST /acts/{id}/sign", act("/sign", **SIGN), "paul", [Kind.IDENTITY_UNLOCKED, Kind.ACT_SIGNED]),
    ("POST /acts/upload", _signed_file, "ada", [Kind.ACT_SIGNED, Kind.HOLD_LIFTED, Kind.ACT_CLOSED]),
    ("POST /acts/{id}/withdraw", act("/withdraw", reason="r"), "ada", [Kind.REQUEST_REFUSED]),
    ("GET /acts", plain("/acts"), "ada", []),
    ("POST /passphrase", plain("/passphrase", current="wrong", new=OWN_WORDS, again=OWN_WORDS), "ada",
     [Kind.ACCOUNT_REFUSED, Kind.REQUEST_REFUSED]),
    ("POST /passphrase", plain("/passphrase", current=PASSPHRASE, new=OWN_WORDS, again=OWN_WORDS), "ada",
     [Kind.ACCOUNT_CHANGED, Kind.SESSION_CLOSED, Kind.SESSION_OPENED]),
    ("POST /logout", plain("/logout"), "ada", [Kind.SESSION_CLOSED]),
    ("POST /login", plain("/login", name="Ada Kim", passphrase="wrong"), "ada",
     [Kind.ACCOUNT_REFUSED, Kind.REQUEST_REFUSED]),
]  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    office = furnished(tmp_path / "home", PASSPHRASE)
    running = Gateway(office.home).start()
    try:
        running.wait_ready()
        with (
            httpx.Client(base_url=running.console_url, timeout=30) as paul,
            httpx.Client(base_url=running.console_url, timeout=30) as ada,
        ):
            yield Desk(running, office, paul, ada)
    finally:
        running.stop()


def test_no_page_is_forgotten() -> None:
    """Whoever adds one to these groups says here what it leaves on the record."""
    routes = [*entrance.ROUTES, *erasures.ROUTES, *acts_pages.ROUTES, *holds.ROUTES]
    found = {f"{method} {route.path}" for route in routes for method in (route.methods or set()) - {"HEAD"}}

    assert found == {name for name, _, _, _ in STEPS}


def test_pages_leave_their_records(desk: Desk) -> None:
    """Each page in turn, in the order of a day's work."""
    wrong = {}
    for number, (name, fill, who, expected) in enumerate(STEPS):
        client = desk.paul if who == "paul" else desk.ada
        path, fields = fill(desk)
        before = desk.seen()
        if name.startswith("GET"):
            answer = client.get(path)
        else:
            token = re.search(r'name="csrf" value="([^"]+)"', client.get("/passphrase").text)
            sent = {"csrf": token[1] if token else "", **(fields or {})}
            files = {key.removeprefix("file:"): (key, sent.pop(key)) for key in list(sent) if ":" in key}
            answer = client.post(path, data=sent, files=files or None)
            led = answer.headers.get("location", "")
            desk.at = led if led.startswith(("/acts/", "/erasures/")) else desk.at
        if (found := desk.since(before)) != expected:
            wrong[f"{number} {name} {answer.status_code}"] = found

    assert wrong == {}
