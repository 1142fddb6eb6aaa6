"""A key's page: its terms from the form to the first refusal, another secret beside the old one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import CreateKey, ListKeys
from appliance.core import Role
from tests.browser.rooms import Seat, seat
from tests.harness import Gateway, gateway, question

PHONE = {"width": 390, "height": 844}
BASIS = "works agreement 7, approved by A. Berg"
TERMS = "What it may ask"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("keys") / "home") as started:
        yield started


def fill_in(page: Page) -> None:
    """A key for one purpose."""
    page.get_by_label("Name", exact=True).fill("clinic")
    page.locator("summary").filter(has_text=TERMS).click()
    page.get_by_role("checkbox", name="default").check()
    page.get_by_role("checkbox", name="chat", exact=False).first.check()
    page.get_by_label("Networks").fill("127.0.0.0/8\n10.1.0.0/16")
    page.get_by_label("Metadata only").check()
    page.get_by_label("Requests a minute").fill("60")
    page.get_by_label("Prefix profile").fill("clinic")


def key_picture(person: Seat, key_id: str) -> None:
    """operator-key.png: a key with terms of its own, and the forms to change and rotate it."""
    person.open(f"/keys/{key_id}")
    person.picture("operator-key")


def test_terms_are_chosen_in_a_form_and_hold(running: Gateway, chromium: Browser, pictures: Path) -> None:
    """Nothing typed is lost by a refusal; the key that is made is what was chosen, and is held to it."""
    with seat(running, chromium, pictures) as person:
        page = person.log_in("Ada Kim", Role.OPERATOR)
        fill_in(person.open("/keys"))
        page.get_by_role("button", name="Make the key with these terms").click()
        assert "a basis for that" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Networks").input_value() == "127.0.0.0/8\n10.1.0.0/16"
        assert page.get_by_label("Metadata only").is_checked()
        person.picture("operator-keys-form")

        page.get_by_label("On which ground").fill(BASIS)
        page.get_by_role("button", name="Make the key with these terms").click()
        token = page.locator(".secret").inner_text()
        with running.client(None, headers={"authorization": f"Bearer {token}"}) as client:
            assert client.post("/v1/chat/completions", json=question("echo: x")).status_code == 200
            assert client.post("/tokenize", json={"content": "x"}).status_code == 403
        made = next(each for each in running.command(ListKeys())["keys"] if each["name"] == "clinic")
        assert made["terms"] == {
            "models": ["default"],
            "endpoints": ["chat"],
            "addresses": ["127.0.0.0/8", "10.1.0.0/16"],
            "capture": "metadata",
            "capture_basis": BASIS,
            "prefix_profile": "clinic",
            "limits": {"requests_per_minute": 60},
        }
        page.get_by_role("link", name="I have copied it").click()
        listed = page.get_by_role("row", name="clinic").inner_text()
        assert "metadata only" in listed
        assert "2 networks" in listed
        assert made["last_use_us"] is not None


def test_key_is_changed_and_given_another_secret(running: Gateway, chromium: Browser, pictures: Path) -> None:
    """Its page shows what it is; what is changed there holds at once, and a rotation leaves both secrets."""
    made = running.command(CreateKey(name="portal", role=Role.DEVELOPER, expires_seconds=90 * 86_400))
    with (
        seat(running, chromium, pictures) as person,
        running.client(None, headers={"authorization": f"Bearer {made['token']}"}) as old,
    ):
        page = person.log_in("Bo Lind", Role.OPERATOR)
        assert old.post("/tokenize", json={"content": "x"}).status_code == 200
        person.open("/keys")
        page.get_by_role("row", name="portal").get_by_role("link", name="Change").click()
        assert "anywhere" in page.inner_text("main")
        page.get_by_role("checkbox", name="chat", exact=False).first.check()
        page.get_by_role("button", name="Change the key").click()
        assert "has other terms" in page.get_by_role("status").inner_text()
        assert old.post("/tokenize", json={"content": "x"}).status_code == 403
        key_picture(person, made["id"])

        page.get_by_role("button", name="Make a new secret").click()
        assert "goes on until" in page.inner_text("main")
        token = page.locator(".secret").inner_text()
        with running.client(None, headers={"authorization": f"Bearer {token}"}) as new:
            for each in (old, new):
                assert each.get("/v1/models").status_code == 200
                assert each.post("/tokenize", json={"content": "x"}).status_code == 403
        person.open(f"/keys/{made['id']}")
        assert "Two keys of this name are in force" in page.inner_text("main")
        assert page.get_by_role("button", name="Make a new secret").count() == 0
        kinds = [each.kind for each in query.search(running.home.database, limit=30)]
        assert Kind.KEY_ROTATED in kinds


def test_nothing_of_the_form_is_wider_than_a_telephone(
    running: Gateway, chromium: Browser, pictures: Path
) -> None:
    """Folded away and open, without JavaScript, in the dark."""
    made = running.command(CreateKey(name="small", role=Role.KIOSK))
    with seat(running, chromium, pictures, size=PHONE) as person:
        page = person.log_in("Cy Moss", Role.OPERATOR)
        for path in ("/keys", f"/keys/{made['id']}"):
            person.open(path)
            for summary in page.locator("summary").all():
                summary.click()
            wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wider <= 0, path
        person.picture("operator-key-small")
    with seat(running, chromium, pictures, size=PHONE, javascript=False, dark=True) as person:
        page = person.log_in("Dee Fox", Role.OPERATOR)
        person.open("/keys")
        page.locator("summary").filter(has_text=TERMS).click()
        assert page.get_by_label("Networks").is_visible()
        person.picture("operator-keys-small")


def test_operator_sees_no_page_of_a_key_above_their_own(
    running: Gateway, chromium: Browser, pictures: Path
) -> None:
    """A key of an auditor is listed, without a way to its page; its address is refused."""
    made = running.command(CreateKey(name="reader", role=Role.AUDITOR))
    with seat(running, chromium, pictures) as person:
        page = person.log_in("Eve Orr", Role.OPERATOR)
        person.open("/keys")
        assert page.get_by_role("row", name="reader").get_by_role("link").count() == 0
        person.open(f"/keys/{made['id']}")
        assert "does not manage keys of the role auditor" in page.inner_text("main")
