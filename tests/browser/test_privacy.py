"""The privacy officer and the second approver at their browsers: from the request to the receipt."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from appliance.alone import Alone
from appliance.audit import acts, query, shares
from appliance.audit.kinds import Kind
from tests.browser.rooms import LOBBY, PASSPHRASE, Seat, seat
from tests.harness import Gateway
from tests.office import Office, furnished
from tests.records import assert_verified

PHONE = {"width": 390, "height": 844}
# CR, LF, ESC, NUL's neighbour, bidi, markup, a template: what foreign words may hold.
EVIL = "a\u202eb\x1b[31m <script>alert(1)</script> {{7*7}} {% raw %} \"'><img src=x onerror=alert(2)>\u200b"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """Two deciders with accounts and hosted identities, and somebody who asked."""

    def hold(alone: Alone) -> None:
        asyncio.run(
            alone.custody.hold(
                api_key="", user="someone else", since_us=0, until_us=None, reason="Case 12 O 345/26"
            )
        )

    return furnished(tmp_path_factory.mktemp("privacy") / "home", PASSPHRASE, more=hold)


@pytest.fixture(scope="module")
def served(office: Office) -> Iterator[Gateway]:
    running = Gateway(office.home).start()
    try:
        yield running
    finally:
        running.stop()


def in_(person: Seat, name: str) -> Page:
    """Somebody of the office logs in."""
    person.enter(name, PASSPHRASE)
    return person.page


def draft(page: Page, user: str, *, reason: str = "Asked for on 3 November, letter 2026/117") -> None:
    """The form, the look, the draft."""
    page.get_by_role("link", name="Erasures", exact=True).click()
    page.get_by_label("Person, as callers name them").fill(user)
    page.get_by_label("Reason (it goes on the record, sealed)").fill(reason)
    page.get_by_label("Legal basis").fill("GDPR Art. 17(1)(b)")
    page.get_by_role("button", name="See what it would destroy").click()


def sign(page: Page) -> None:
    page.get_by_label("Passphrase of your identity").fill(PASSPHRASE)
    page.get_by_label("I have read what this act says and does, and agree.").check()
    page.get_by_role("button", name="Sign", exact=True).click()


def picture_erasure(person: Seat) -> None:
    """deploy/guides: what an erasure would destroy. The person is logged in as the privacy officer."""
    draft(person.page, "citizen-17")
    person.picture("privacy-erasure")


def picture_act(person: Seat) -> None:
    """deploy/guides: an act before it is signed. Behind `picture_erasure`."""
    person.page.get_by_role("button", name="Draft the act").click()
    person.picture("privacy-act")


def picture_holds(person: Seat) -> None:
    """deploy/guides: legal holds."""
    person.open("/holds")
    person.picture("privacy-holds")


def test_erasure_from_the_request_to_the_receipt(
    served: Gateway, office: Office, chromium: Browser, pictures: Path
) -> None:
    """The officer sees what it would destroy, drafts and signs; the auditor reads and signs; it is done."""
    with seat(served, chromium, pictures) as paul, seat(served, chromium, pictures) as ada:
        page = in_(paul, "Paul Voss")
        picture_erasure(paul)
        assert "5 records would open for nobody any more" in page.inner_text("main")
        assert "citizen-17" not in page.url
        assert query.search(office.home.database, kind=Kind.AUDIT_SEARCHED)
        picture_act(paul)
        assert "the person “citizen-17”, under every API key" in page.inner_text("main")
        assert "0 of 2 signatures" in page.inner_text("main")
        sign(page)
        assert "1 of 2 signatures" in page.inner_text("main")
        assert page.get_by_role("button", name="Sign", exact=True).count() == 0

        other = in_(ada, "Ada Kim")
        ada.open("/acts")
        ada.picture("privacy-acts")
        other.get_by_role("link", name="Erasure", exact=True).click()
        sign(other)
        assert "the act is carried out, as record" in other.inner_text("main")
        ada.picture("privacy-carried-out")
        assert "citizen-17" not in other.content()

    assert shares.find(office.home, f"user:{office.key_id}:citizen-17") == []
    assert_verified(office.home)


def test_act_is_signed_on_another_machine(
    served: Gateway, office: Office, chromium: Browser, pictures: Path, tmp_path: Path
) -> None:
    """Downloaded, signed with an identity file, brought back; a hold keeps it from being carried out."""
    with seat(served, chromium, pictures) as person:
        page = in_(person, "Paul Voss")
        draft(page, "someone else")
        assert "Legal hold" in page.get_by_text("covers some of it").inner_text()
        page.get_by_role("button", name="Draft the act").click()
        sign(page)
        with page.expect_download() as taken:
            page.get_by_role("link", name="Download the act").click()
        path = tmp_path / taken.value.suggested_filename
        taken.value.save_as(path)
        path.write_text(acts.parse(path.read_text()).signed_by(office.auditor).note())
        page.get_by_role("link", name="Acts", exact=True).first.click()
        page.get_by_label("Act", exact=True).set_input_files(path)
        page.get_by_role("button", name="Bring it in").click()
        told = page.inner_text("main")
        assert "was not carried out" in told
        assert "legal hold" in told.lower()
        assert page.get_by_role("button", name="Carry it out").is_visible()
        page.get_by_label("Why (it goes on the record, sealed)").fill("the case is not over")
        page.get_by_role("button", name="Withdraw the act").click()
        assert "Nothing was carried out" in page.inner_text("main")


def test_hold_is_placed_by_one_and_ended_by_two(
    served: Gateway, office: Office, chromium: Browser, pictures: Path
) -> None:
    """In force at once; its end is an act like any other."""
    with seat(served, chromium, pictures) as paul, seat(served, chromium, pictures) as ada:
        page = in_(paul, "Paul Voss")
        picture_holds(paul)
        page.get_by_label("API key").select_option(label=f"lobby ({office.key_id})")
        page.get_by_label("Last day (UTC)").fill("2026-01-31")
        page.get_by_label("Reason (it goes on the record, sealed)").fill("Case 9 S 1/26")
        page.get_by_role("button", name="Place the hold").click()
        assert "is in force, as record" in page.inner_text("main")
        row = page.get_by_role("row").filter(has_text="lobby")
        row.get_by_text("Draft its end").click()
        row.get_by_role("textbox").fill("the case is over")
        row.get_by_role("button", name="Draft the act").click()
        assert "End of a legal hold" in page.inner_text("h1")
        sign(page)
        other = in_(ada, "Ada Kim")
        ada.open(page.url.removeprefix(served.console_url))
        sign(other)
        assert "the act is carried out" in other.inner_text("main")
        paul.open("/holds")
        assert "Ended" in page.inner_text("main")


def test_wrong_passphrase_signs_nothing(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """The page says so, the act stays as it was, and the field is empty again."""
    with seat(served, chromium, pictures) as person:
        page = in_(person, "Paul Voss")
        draft(page, "someone else", reason="second try")
        page.get_by_role("button", name="Draft the act").click()
        page.get_by_label("Passphrase of your identity").fill("not the right words")
        page.get_by_label("I have read what this act says and does, and agree.").check()
        page.get_by_role("button", name="Sign", exact=True).click()
        assert "not the passphrase" in page.get_by_role("alert").inner_text()
        assert "0 of 2 signatures" in page.inner_text("main")
        assert page.get_by_label("Passphrase of your identity").input_value() == ""


@pytest.mark.parametrize("javascript", [True, False])
def test_foreign_words_are_inert(
    served: Gateway, chromium: Browser, pictures: Path, *, javascript: bool
) -> None:
    """Whatever a name or a reason holds is shown as text, with what would steer a screen as its number."""
    with seat(served, chromium, pictures, javascript=javascript) as person:
        page = in_(person, "Paul Voss")
        draft(page, EVIL, reason=f"{EVIL} {javascript}")
        told = page.inner_text("main")
        assert "<script>alert(1)</script> {{7*7}} {% raw %}" in told
        assert "⟨U+202E⟩" in told
        assert "\u202e" not in page.content()
        page.get_by_text("Back, nothing is drafted").click()
        page.get_by_label("Reason (it goes on the record, sealed)").fill(EVIL)
        page.get_by_label("First month").evaluate("e => { e.type = 'text'; }") if javascript else None
        if javascript:
            page.get_by_label("First month").fill("2026-5")
            page.get_by_label("First month").evaluate("e => e.removeAttribute('pattern')")
        page.get_by_label("Legal basis").fill("x")
        page.get_by_role("button", name="See what it would destroy").click()
        assert page.get_by_role("alert").is_visible()
        assert "<script>alert(1)</script>" in page.get_by_label("Reason").input_value()


def test_pages_are_walked_by_keyboard_and_fit_a_small_screen(
    served: Gateway, chromium: Browser, pictures: Path
) -> None:
    """Each field has a label, headings go down in order, tables have captions, and nothing is cut off."""
    with seat(served, chromium, pictures, size=PHONE, dark=True) as person:
        page = in_(person, "Paul Voss")
        for name, path in (("erasures", "/erasures"), ("acts", "/acts"), ("holds", "/holds")):
            person.open(path)
            person.picture(f"privacy-{name}-small")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            unlabelled = page.evaluate(
                "[...document.querySelectorAll('main input:not([type=hidden]), main select, main textarea')]"
                ".filter(e => !e.labels.length).map(e => e.name)"
            )
            assert unlabelled == []
            levels = page.evaluate(
                "[...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]))"
            )
            assert levels[0] == 1
            assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
            assert page.evaluate("[...document.querySelectorAll('table')].every(e => e.caption)")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the page"


def test_large_screen(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """Upright screens are no reason to break."""
    with seat(served, chromium, pictures, size=LOBBY) as person:
        in_(person, "Ada Kim")
        person.open("/acts")
        assert person.page.get_by_role("heading", name="Acts that take several people").is_visible()
