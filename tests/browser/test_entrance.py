"""Getting in and out, as a person does it."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser

from appliance.commands import DisableAccount
from appliance.core import Role
from tests.browser.rooms import PASSPHRASE, seat
from tests.harness import Gateway


def test_first_log_in_asks_for_a_passphrase_of_ones_own(
    served: Gateway, chromium: Browser, pictures: Path
) -> None:
    """The passphrase that was handed over opens nothing but the page that replaces it."""
    with seat(served, chromium, pictures) as person:
        page = person.log_in("Ada Kim", Role.OPERATOR)
        assert "Your passphrase is changed" in page.inner_text("main")
        page.get_by_role("button", name="Log out").click()
        person.enter("Ada Kim", PASSPHRASE)
        assert page.get_by_role("button", name="Log out").is_visible()
        person.picture("entrance")


def test_disabled_account_is_out_at_once(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """The next click of somebody whose account was disabled leads to the entrance."""
    with seat(served, chromium, pictures) as person:
        page = person.log_in("Bo Lind", Role.OPERATOR)
        served.command(DisableAccount(name_or_id="Bo Lind"))
        person.open("/")
        assert page.get_by_label("Passphrase").is_visible()


def test_wrong_passphrase_and_unknown_name_look_the_same(
    served: Gateway, chromium: Browser, pictures: Path
) -> None:
    """Nobody learns at the entrance which names exist."""
    with seat(served, chromium, pictures, javascript=False) as person:
        person.log_in("Cy Moss", Role.OPERATOR)
        person.page.get_by_role("button", name="Log out").click()
        told = []
        for name in ("Cy Moss", "nobody"):
            person.enter(name, "not the right words")
            told.append(person.page.get_by_role("alert").inner_text())

    assert told[0] == told[1] != ""
