"""People at a real gateway: the program makes accounts, the console lets them in, the record tells both."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from appliance.audit import query
from appliance.audit.files import Latch
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.core import Role
from tests.browser.rooms import PASSPHRASE
from tests.harness import Gateway, appliance, gateway
from tests.records import assert_verified

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("accounts") / "home") as running:
        yield running


def create(home: Home, name: str, role: Role, *more: str) -> dict[str, str]:
    """What the program tells of a new account."""
    done = appliance("account", "create", name, "--role", role, "--replace", *more, "--json", home=home)
    told: dict[str, str] = json.loads(done.stdout)
    return told


class Browser:
    """As much of a browser as an entrance needs: cookies, and forms with their token."""

    def __init__(self, running: Gateway, **options: object) -> None:
        self.client = httpx.Client(base_url=running.console_url, timeout=30, **options)  # type: ignore[arg-type]

    def log_in(self, name: str, passphrase: str) -> httpx.Response:
        return self.client.post("/login", data={"name": name, "passphrase": passphrase})

    def send(self, path: str, **fields: str) -> httpx.Response:
        token = re.search(r'name="csrf" value="([^"]+)"', self.client.get("/passphrase").text)
        return self.client.post(path, data={"csrf": token[1] if token else "", **fields})

    def first(self, made: dict[str, str]) -> httpx.Response:
        """The first log-in, and a passphrase of one's own."""
        self.log_in(made["name"], made["passphrase"])
        return self.send("/passphrase", current=made["passphrase"], new=PASSPHRASE, again=PASSPHRASE)


Sit = Callable[..., Browser]


@pytest.fixture
def sit() -> Iterator[Sit]:
    """Browsers, and that each is closed."""
    with contextlib.ExitStack() as stack:

        def taken(running: Gateway, **options: object) -> Browser:
            browser = Browser(running, **options)
            stack.callback(browser.client.close)
            return browser

        yield taken


ABOUT_PEOPLE = ("account:", "session:", "request:refused")


def since(running: Gateway, seq: int) -> list[str]:
    found = query.search(running.home.database, limit=1000)
    return [
        str(each.kind)
        for each in reversed(found)
        if each.seq > seq and str(each.kind).startswith(ABOUT_PEOPLE)
    ]


def seen(running: Gateway) -> int:
    return int(query.search(running.home.database, limit=1)[0].seq)


def test_way_in_and_out_is_on_the_record(served: Gateway, sit: Sit) -> None:
    """Made, let in, a passphrase of one's own, let out: an entry each, in this order, and verify is green."""
    before = seen(served)
    browser = sit(served)
    browser.first(create(served.home, "Ada Kim", Role.OPERATOR))
    browser.send("/logout")
    assert browser.client.get("/").headers["location"] == "/login"

    first, closed = ["account:entered", "session:opened"], "session:closed"
    assert since(served, before) == [
        "account:created", *first, "account:changed", closed, "session:opened", closed,
    ]  # fmt: skip
    assert_verified(served.home)


def test_wrong_log_ins_are_refused_alike_and_recorded(served: Gateway, sit: Sit) -> None:
    """Five wrong ones lock an account; a name that nobody has waits as well, and the pages are the same."""
    create(served.home, "Bo Lind", Role.AUDITOR)
    before, browser = seen(served), sit(served)
    pages = {
        name: [browser.log_in(name, "not the right words") for _ in range(6)]
        for name in ("Bo Lind", "nobody")
    }
    told = {
        name: [(each.status_code, re.sub(r"in \d+ seconds", "in a while", each.text)) for each in answers]
        for name, answers in pages.items()
    }

    assert told["Bo Lind"] == told["nobody"]
    assert [status for status, _ in told["nobody"]] == [401] * 5 + [429]
    assert since(served, before).count("account:locked") == 1
    assert since(served, before).count("request:refused") == 12
    assert "Bo Lind" not in served.log_file.read_text()


def test_reset_and_disable_end_open_sessions(served: Gateway, sit: Sit) -> None:
    """Whoever has a session under the old passphrase, or under an account that ended, is out with a click."""
    browser = sit(served)
    browser.first(create(served.home, "Cy Moss", Role.OPERATOR))
    before = seen(served)
    again = json.loads(appliance("account", "reset", "Cy Moss", "--json", home=served.home).stdout)
    assert browser.client.get("/").headers["location"] == "/login"
    browser.first(again)
    appliance("account", "disable", "Cy Moss", home=served.home)
    assert browser.client.get("/").headers["location"] == "/login"

    closed = query.search(served.home.database, kind=Kind.SESSION_CLOSED, limit=10)
    reasons = [each.public["reason"] for each in reversed(closed) if each.seq > before]
    assert reasons[0] == "passphrase"
    assert reasons[-1] == "disabled"


def test_program_tells_people_and_programs(served: Gateway) -> None:
    """The passphrase on a line of its own, once; lists without it; JSON beside each."""
    shown = appliance(
        "account", "create", "Di Voss", "--role", "privacy", "--expires", "2d", home=served.home
    )
    words = shown.stdout.splitlines()[0]
    listed = appliance("account", "list", home=served.home).stdout
    told = json.loads(appliance("account", "list", "--json", home=served.home).stdout)
    (account,) = [each for each in told["accounts"] if each["name"] == "Di Voss"]

    assert re.fullmatch(r"([a-z2-9]{4}-){4}[a-z2-9]{4}", words)
    assert "shown this once" in shown.stdout
    assert "waits for its first log-in" in next(line for line in listed.splitlines() if "Di Voss" in line)
    assert words not in listed + json.dumps(told)
    assert set(account) == {
        "id", "name", "role", "must_change", "created_us", "expires_us", "disabled_us",
        "second_factor", "entered_us",
    }  # fmt: skip
    assert account["expires_us"] - account["created_us"] == 2 * 86_400 * 1_000_000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create", "Eve", "--role", "kiosk"), "Invalid value for '--role'"),
        (("create", "Ada Kim", "--role", "admin"), "an account with this name exists"),
        (("create", "ADA KIM", "--role", "auditor"), "this name already runs the appliance"),
        (("create", "dev-auditor", "--role", "operator"), "this name already audits it (the key policy"),
        (("create", "two\nlines", "--role", "auditor"), "printable characters"),
        (("create", "Eve", "--role", "auditor", "--expires", "never"), "--expires"),
        (("reset", "nobody"), "no account in force has this name or id"),
        (("disable", "nobody"), "no account in force has this name or id"),
    ],
)
def test_program_says_why_not(served: Gateway, words: tuple[str, ...], told: str) -> None:
    """Exit code 2, a line about it, and nothing on the record."""
    appliance("account", "create", "Ada Kim", "--role", "admin", "--replace", home=served.home)
    before = seen(served)
    done = appliance("account", *words, home=served.home, check=False)

    assert done.returncode == 2
    assert told in done.stderr
    assert done.stdout == ""
    assert since(served, before) == []


def test_accounts_are_made_without_a_gateway_too(home: Home, sit: Sit) -> None:
    """The program itself does it while none runs; the gateway that starts later knows them."""
    made = create(home, "Ada Kim", Role.OPERATOR)
    running = Gateway(home).start()
    try:
        assert sit(running).first(made).headers["location"] == "/"
    finally:
        running.stop()
    closed = query.search(home.database, kind=Kind.SESSION_CLOSED)
    assert [each.public["reason"] for each in closed] == ["stopped", "logout"]


def test_latched_log_lets_nobody_in(tmp_path: Path, sit: Sit) -> None:
    """Whoever comes is told why; nothing of the way in happens that can not be recorded."""
    with gateway(tmp_path / "home") as running:
        made = create(running.home, "Ada Kim", Role.OPERATOR)
        running.stop()
        Latch(running.home.latch).set("a test")
        running.start(until="console on")
        answer = sit(running).log_in("Ada Kim", made["passphrase"])

        assert answer.status_code == 503
        assert "audit_unavailable" in answer.text
        assert "set-cookie" not in answer.headers


def test_console_over_tls_binds_its_cookie(tmp_path: Path, sit: Sit) -> None:
    """With a certificate the cookie is the host's own and secure, and browsers are told to stay with TLS."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
         "1", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    toml = f'[server]\ntls_certificate = "{certificate}"\ntls_key = "{key}"\n'
    with gateway(tmp_path / "home", toml=toml) as running:
        made = create(running.home, "Ada Kim", Role.OPERATOR)
        browser = sit(running, verify=False)
        answer = browser.log_in("Ada Kim", made["passphrase"])

        assert running.console_url.startswith("https://")
        assert answer.headers["set-cookie"].startswith("__Host-session=")
        assert answer.headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict; Secure")
        assert "strict-transport-security" in answer.headers
        assert browser.client.get("/").headers["location"] == "/passphrase"


def test_static_files_are_kept_by_their_digest_only(served: Gateway) -> None:
    """The address that a page names answers for ever; any other digest is a page that is not there."""
    with httpx.Client(base_url=served.console_url) as client:
        page = client.get("/login")
        (path,) = re.findall(r'href="(/static/[0-9a-f]{16}/console\.css)"', page.text)
        good = client.get(path)
        answers = [
            client.get(re.sub(r"[0-9a-f]{16}", "0" * 16, path)),
            client.get(path.replace("console.css", "none.css")),
            client.get("/static/" + "0" * 16 + "/..%2F..%2Ftemplates%2Fbase.html"),
        ]
    assert good.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert good.headers["content-type"] == "text/css; charset=utf-8"
    assert good.headers["x-content-type-options"] == "nosniff"
    assert [each.status_code for each in answers] == [404, 404, 404]


def test_canary_passphrases_lie_nowhere(served: Gateway, sit: Sit) -> None:
    """Neither the first passphrase nor the chosen one is in a file of the home, in the log or in output."""
    made = create(served.home, "Fay Orr", Role.OPERATOR)
    sit(served).first(made)
    held = b"".join(path.read_bytes() for path in served.home.root.rglob("*") if path.is_file())
    held += served.log_file.read_bytes() + "".join(served.output).encode()

    assert made["passphrase"].encode() not in held
    assert PASSPHRASE.encode() not in held
