"""Those who run the appliance, at their pages: health, keys, storage, people. In real Chromium."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.verdict import Verification
from appliance.commands import Verified
from appliance.core import Role
from tests.browser.rooms import Seat, seat
from tests.harness import Gateway, appliance, gateway
from tests.homes import make_home

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with an hour and a day behind it, an alarm, and some work now."""
    toml = (
        '[audit]\norigin = "agency.example/audit/1"\n'
        '[audit.retention_days]\n"request:opened" = 365\n"request:segment" = 365\n"request:closed" = 365\n'
    )
    running = Gateway(make_home(tmp_path_factory.mktemp("busy") / "home", toml=toml))
    running.program = [sys.executable, "-m", "tests.fakes.serve_busy"]
    try:
        running.start()
        for number in range(6):
            running.chat(f"say {5 + number} tokens")
        running.chat("please crash say 9 tokens")
        running.wait_ready()
        appliance("audit", "verify", home=running.home)
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def health_picture(person: Seat) -> None:
    """operator-health.png: the first page of those who run the appliance, as it is after a day."""
    person.open("/health")
    person.picture("operator-health")


def keys_picture(person: Seat) -> None:
    """operator-keys.png: the list of API keys, some of them made here."""
    for name, days in (("lobby-1", "90"), ("lobby-2", "90"), ("tax-portal", "365")):
        _make_key(person.open("/keys"), name, days)
    person.open("/keys")
    person.picture("operator-keys")


def storage_picture(person: Seat) -> None:
    """operator-storage.png: the disk, its forecast, a backup just made, the history."""
    page = person.open("/storage")
    page.get_by_role("button", name="Back up now").click()
    _wait_for_backup(person)
    person.picture("operator-storage")


def _make_key(page: Page, name: str, days: str = "90") -> str:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Expires").select_option(days)
    page.get_by_role("button", name="Make the key").click()
    return page.locator(".secret").inner_text()


def _wait_for_backup(person: Seat) -> None:
    """Looks again, as a person does."""
    for _ in range(50):
        if "is there and on the record" in person.page.inner_text("main"):
            return
        person.page.wait_for_timeout(100)
        person.open("/storage")
    raise AssertionError("the backup did not come")


def test_health_tells_figures_alarms_models_and_load(
    busy: Gateway, chromium: Browser, pictures: Path
) -> None:
    """The first page of an operator: marks with words, the alarm of the crash, six pictures with numbers."""
    with seat(busy, chromium, pictures) as person:
        page = person.log_in("Ada Kim", Role.OPERATOR)
        health_picture(person)
        told = page.inner_text("main")

        assert page.url.endswith("/health")
        for words in ("Audit log", "Ready", "1 of 1", "Disk left", "Green", "failed", "worker_died"):
            assert words in told
        assert page.locator("svg.plot").count() == 6
        assert all(page.locator("svg.plot title").all_text_contents())
        page.locator("summary").first.click()
        assert page.locator("details[open] tbody tr").count() == 60
        person.open("/health?span=day")
        page.locator("summary").first.click()
        assert page.locator("details[open] tbody tr").count() >= 95


def test_health_is_read_without_javascript_in_the_dark_on_a_telephone(
    busy: Gateway, chromium: Browser, pictures: Path
) -> None:
    """Everything is there, and nothing is wider than the screen."""
    with seat(busy, chromium, pictures, size=PHONE, javascript=False, dark=True) as person:
        page = person.log_in("Bo Lind", Role.OPERATOR)
        page.get_by_role("link", name="Refresh").click()
        assert "1 of 1" in page.inner_text("main")
        person.picture("operator-health-small")
    with seat(busy, chromium, pictures, size=PHONE) as person:
        page = person.log_in("Bo Lind", Role.ADMIN)
        for path in ("/health", "/keys", "/storage", "/people"):
            person.open(path)
            wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wider <= 0, path


def test_health_brings_itself_up_to_date(busy: Gateway, chromium: Browser, pictures: Path) -> None:
    """Its script puts the newest figures in without loading the page, and keeps what is open open."""
    with seat(busy, chromium, pictures) as person:
        page = person.log_in("Cy Moss", Role.OPERATOR)
        page.clock.install()
        page.reload()
        page.evaluate("document.querySelector('details').open = true; window.mark = 1")
        before = page.locator(".tile .figure").first.inner_text()
        busy.chat("say 3 tokens")
        page.clock.run_for(11_000)

        expect(page.locator(".tile .figure").first).not_to_have_text(before)
        assert page.evaluate("window.mark") == 1
        assert page.locator("details[open]").count() == 1


def test_key_is_made_shown_once_used_and_revoked(busy: Gateway, chromium: Browser, pictures: Path) -> None:
    """From the form to the first call, and to the refusal after its end; the secret is on one page only."""
    with seat(busy, chromium, pictures) as person:
        page = person.log_in("Ada Kim", Role.OPERATOR)
        token = _make_key(person.open("/keys"), "desk-1")
        person.picture("operator-key-made")
        assert token.startswith("apk_")
        assert token not in page.url
        headers = {"authorization": f"Bearer {token}"}
        with busy.client(None, headers=headers) as client:
            assert client.get("/v1/models").status_code == 200
            page.get_by_role("link", name="I have copied it").click()
            assert token.rsplit("_", 1)[1] not in page.content()
            assert "kiosk" in page.get_by_role("row", name="desk-1").inner_text()
            page.get_by_role("row", name="desk-1").get_by_role("link", name="Revoke").click()
            assert "Revoke desk-1?" in page.inner_text("h1")
            page.get_by_role("button", name="Revoke it").click()
            assert "is revoked" in page.get_by_role("status").inner_text()
            assert client.get("/v1/models").status_code == 401
        keys_picture(person)


def test_keys_are_made_by_keyboard_alone(busy: Gateway, chromium: Browser, pictures: Path) -> None:
    """Skip link, fields in their order, and the button by Enter."""
    with seat(busy, chromium, pictures) as person:
        page = person.log_in("Dee Fox", Role.OPERATOR)
        person.open("/keys")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "name"
        page.keyboard.type("by-keyboard")
        for wanted in ("role", "days"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == wanted
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")

        assert page.locator(".secret").inner_text().startswith("apk_")


def test_operator_makes_no_key_above_their_own(busy: Gateway, chromium: Browser, pictures: Path) -> None:
    """The form offers who asks, and operators; another role, put in by hand, is refused and recorded."""
    with seat(busy, chromium, pictures) as person:
        page = person.log_in("Eve Orr", Role.OPERATOR)
        person.open("/keys")
        offered = page.locator("#role option").evaluate_all("all => all.map(each => each.value)")
        assert offered == ["kiosk", "developer", "operator"]
        page.evaluate("document.querySelector('#role option').value = 'auditor'")
        page.get_by_label("Name").fill("a reader of mine")
        page.get_by_role("button", name="Make the key").click()

        assert "does not manage keys of the role auditor" in page.inner_text("main")
        newest = query.search(busy.home.database, kind=Kind.REQUEST_REFUSED, limit=1)[0]
        assert newest.public["code"] == "permission_denied"


def test_storage_backs_up_and_tells_what_goes_when(busy: Gateway, chromium: Browser, pictures: Path) -> None:
    """A backup by one click, on the record with both of its files; retention and history beside it."""
    with seat(busy, chromium, pictures) as person:
        page = person.log_in("Ada Kim", Role.OPERATOR)
        storage_picture(person)
        told = page.inner_text("main")

        assert query.search(busy.home.database, kind=Kind.DATABASE_BACKED_UP, limit=1)
        assert list(busy.home.backups.glob("appliance-*-console.db"))
        assert list(busy.home.backups.glob("shares-*.backup"))
        for words in ("request:opened", "365", "Release", "started", "Other settings"):
            assert words in told


def test_admin_lets_somebody_in_and_out(busy: Gateway, chromium: Browser, pictures: Path) -> None:
    """An account, its first log-in elsewhere, another passphrase, and its end."""
    with seat(busy, chromium, pictures) as admin, seat(busy, chromium, pictures) as other:
        page = admin.log_in("Ana Roe", Role.ADMIN)
        admin.open("/people")
        page.get_by_label("Name").fill("Gil Hart")
        page.get_by_label("Role").select_option("operator")
        page.get_by_role("button", name="Make the account").click()
        admin.picture("admin-account-made")
        words = page.locator(".secret").inner_text()
        other.enter("Gil Hart", words)
        assert "Choose your passphrase" in other.page.inner_text("h1")
        page.get_by_role("link", name="I have written it down").click()
        assert words not in page.content()
        admin.picture("admin-people")
        page.get_by_role("row", name="Gil Hart").get_by_role("link").click()
        page.get_by_role("button", name="Reset the passphrase").click()
        assert page.locator(".secret").inner_text() != words
        admin.open("/people")
        page.get_by_role("row", name="Gil Hart").get_by_role("link").click()
        page.get_by_role("button", name="Disable the account").click()
        assert "is disabled" in page.get_by_role("status").inner_text()
        other.open("/")
        assert other.page.get_by_label("Passphrase").is_visible()


def test_admin_gives_nobody_two_duties(busy: Gateway, chromium: Browser, pictures: Path) -> None:
    """A name that the key policy lets read gets no account that runs the box, and is told why."""
    with seat(busy, chromium, pictures) as person:
        page = person.log_in("Ana Roe", Role.ADMIN)
        person.open("/people")
        page.get_by_label("Name").fill("dev-auditor")
        page.get_by_label("Role").select_option("operator")
        page.get_by_role("button", name="Make the account").click()

        assert "already audits it" in page.get_by_role("alert").inner_text()
        assert "different people" in page.get_by_role("alert").inner_text()
        person.picture("admin-conflict")


def test_closed_log_is_told_with_the_commands_that_help(
    tmp_path: Path, chromium: Browser, pictures: Path
) -> None:
    """Whoever is logged in when the log closes itself sees why and what to do; no form works any more."""
    red = Verification(
        begin=0,
        size=1,
        root="00",
        findings=["entry 3 is not what was signed"],
        findings_sha256="ab",
        duration_us=1,
    )
    with gateway(tmp_path / "home") as running, seat(running, chromium, pictures) as person:
        page = person.log_in("Ada Kim", Role.OPERATOR)
        running.command(Verified(result=red))
        person.open("/health")
        person.picture("operator-latched")
        told = page.inner_text("main")

        assert "verify is red, 1 findings" in told
        assert page.locator(".latched pre").all_inner_texts() == [
            "appliance audit verify",
            "appliance audit recover",
        ]
        assert "The audit log is closed" in page.locator("#state").inner_text()
        assert person.open("/storage").get_by_role("button", name="Back up now").is_visible()
        page.get_by_role("button", name="Back up now").click()
        assert "the audit log" in page.inner_text("main").lower()
        person.open("/keys")
        page.get_by_label("Name").fill("desk")
        page.get_by_role("button", name="Make the key").click()
        assert page.locator(".secret").count() == 0
        assert "audit_unavailable" in page.inner_text("main")
