"""A second factor as a person sets it up: by keyboard, with and without JavaScript, at a desk and by hand."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from appliance.core import Role
from tests.browser.rooms import PASSPHRASE, Seat, seat
from tests.harness import Gateway
from tests.visitor import code_of

SMALL = {"width": 390, "height": 844}


def begin(person: Seat) -> bytes:
    """To the page with the secret, by keyboard; the secret."""
    page = person.page
    page.get_by_role("link", name="Set one up").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Your passphrase").focus()
    page.keyboard.type(PASSPHRASE)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Scan it, then type its code").wait_for()
    letters = page.locator("p.secret").inner_text().replace(" ", "")
    return base64.b32decode(letters + "=" * (-len(letters) % 8))


@pytest.mark.parametrize("javascript", [True, False])
def test_second_factor_is_set_up_and_asked_for(
    served: Gateway, chromium: Browser, pictures: Path, *, javascript: bool
) -> None:
    """Scanned, confirmed, ten codes on paper; from the next log-in on the code is asked for."""
    with seat(served, chromium, pictures, javascript=javascript) as person:
        page = person.log_in("Ada Kim", Role.OPERATOR)
        page.get_by_role("link", name="Ada Kim").click()
        person.picture("account-none")
        secret = begin(person)
        assert page.locator("svg.qr path").count() >= 1
        person.picture("account-offer")
        page.keyboard.type("000000" if code_of(secret) != "000000" else "111111")  # the field has the focus
        page.keyboard.press("Enter")
        assert "clock" in page.get_by_role("alert").inner_text()
        page.get_by_label("The code that it shows now").fill(code_of(secret))
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Your second factor is in force").wait_for()
        codes = page.locator("ol.codes li").all_inner_texts()
        person.picture("account-recovery")
        page.get_by_role("link", name="I have kept them").click()
        page.get_by_role("button", name="Log out").click()
        person.enter("Ada Kim", PASSPHRASE)
        assert "not right" in page.get_by_role("alert").inner_text()
        page.fill("#name", "Ada Kim")
        page.fill("#passphrase", PASSPHRASE)
        page.get_by_label("Code").fill(codes[0])
        page.keyboard.press("Enter")
        assert (
            "1 of them with your passphrase and a wrong code" in page.get_by_role("status").first.inner_text()
        )
        person.open("/account")
        assert "9 of your recovery codes are left" in page.inner_text("main")
        person.picture("account")
        person.open("/account/second-factor")
        person.picture("account-change")

    assert len(codes) == 10
    assert all(re.fullmatch(r"([a-z2-9]{4}-){3}[a-z2-9]{4}", each) for each in codes)


def test_pages_fit_into_a_hand_and_into_the_dark(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """Nothing is wider than the screen; whoever must have a second factor sees why."""
    with seat(served, chromium, pictures, size=SMALL, dark=True) as person:
        page = person.open("/login")
        person.picture("small-login")
        person.log_in("Bo Lind", Role.WITNESS)
        person.open("/account")
        person.picture("small-account")
        widths = [page.evaluate("document.documentElement.scrollWidth")]
        secret = begin(person)
        person.picture("small-offer")
        widths.append(page.evaluate("document.documentElement.scrollWidth"))
        page.get_by_label("The code that it shows now").fill(code_of(secret))
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Your second factor is in force").wait_for()
        person.picture("small-recovery")
        widths.append(page.evaluate("document.documentElement.scrollWidth"))

    assert widths == [SMALL["width"]] * 3


def test_admin_sees_who_has_one_and_takes_it_away(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """For a lost phone: the person is out, and led to another one behind their passphrase."""
    with seat(served, chromium, pictures) as person, seat(served, chromium, pictures) as admin:
        person.log_in("Cy Moss", Role.OPERATOR)
        person.open("/account")
        secret = begin(person)
        person.page.get_by_label("The code that it shows now").fill(code_of(secret))
        person.page.keyboard.press("Enter")
        person.page.get_by_role("heading", name="Your second factor is in force").wait_for()
        page = admin.log_in("Root Kim", Role.ADMIN)
        admin.open("/people")
        admin.picture("people")
        page.get_by_role("link", name="Change Cy Moss").click()
        admin.picture("person")
        page.get_by_role("button", name="Reset the second factor").click()
        assert "Cy Moss sets up another second factor" in page.get_by_role("status").first.inner_text()
        person.open("/account")
        person.enter("Cy Moss", PASSPHRASE)
        assert "Your account must have one" in person.page.inner_text("main")
        person.open("/health")
        person.picture("account-due")
        assert person.page.get_by_role("heading", name="Set up a second factor").is_visible()
