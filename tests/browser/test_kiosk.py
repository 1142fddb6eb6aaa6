"""The lobby's screen, as visitors touch it, and as the next visitor finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance.audit import query
from appliance.commands import RevokeKey
from appliance.core import Role
from tests.browser.lobby import answer, ask, last_question, left, screen
from tests.browser.rooms import DESKTOP, LOBBY, PASSPHRASE, seat
from tests.harness import Gateway, appliance, gateway, wait_until
from tests.records import assert_verified, openings, place

SECRET = "my number is 4711-0815"
IDLE_MS = 60_000  # kiosk.idle_seconds, by default
SLOW = f"please be slow; say 300 tokens; {SECRET}"


def test_staff_sets_a_screen_up_and_leaves(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """Key into the browser and nowhere else, the session ends, the lobby's page stays until the key goes."""
    with seat(served, chromium, pictures, size=LOBBY) as person:
        page = person.open("/kiosk")
        expect(page.get_by_role("heading", name="being set up")).to_be_visible()
        page.get_by_role("link", name="Staff").click()
        expect(page.get_by_label("Passphrase")).to_be_visible()
        person.log_in("Ann Orr", Role.OPERATOR)
        person.open("/kiosk")
        assert "never runs beside a session" in page.inner_text("main")
        person.open("/kiosk/setup")
        page.fill("#name", "lobby, main entrance")
        page.get_by_role("button", name="Set up this screen").click()
        page.set_viewport_size({"width": 1100, "height": 700})
        person.picture("kiosk-setup")
        cookie = next(each for each in person.context.cookies() if each["name"] == "kiosk")
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
        assert cookie["value"].startswith("apk_")
        assert cookie["value"] not in page.content() + page.evaluate("document.cookie")

        page.get_by_role("button", name="Log out and show").click()
        page.locator(".example").first.wait_for()
        assert [each["name"] for each in person.context.cookies()] == ["kiosk"]
        ask(page, "echo: Welcome.")
        assert answer(page) == "Welcome."

        person.enter("Ann Orr", PASSPHRASE)
        person.open("/kiosk/setup")
        page.get_by_role("button", name="Revoke the key").click()
        expect(page.get_by_text("not enrolled")).to_be_visible()
        assert person.context.cookies(served.console_url + "/kiosk")[0]["name"] == "session"
        assert cookie["value"] not in served.log_file.read_text()
        kinds = [str(each.kind) for each in query.search(place(served.home), limit=30)]
        assert {"screen:enrolled", "screen:removed", "key:created", "key:revoked"} <= set(kinds)


def test_key_that_exists_is_pasted(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """A kiosk's key is taken, by keyboard alone; another role's or a wrong one is refused and told."""
    with seat(served, chromium, pictures) as person:
        page = person.log_in("Bea Moor", Role.OPERATOR)
        for wrong in (served.key(Role.OPERATOR), "apk_x", "no key"):
            person.open("/kiosk/setup")
            page.fill("#key", wrong)
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_be_visible()
            assert wrong not in page.content()
        page.fill("#key", served.key(Role.KIOSK))
        page.keyboard.press("Enter")
        page.get_by_text("enrolled", exact=True).wait_for()
        page.get_by_role("button", name="Only forget it here").click()
        page.get_by_text("not enrolled").wait_for()
        assert served.chat("echo: the key lives on").status_code == 200


def test_answer_streams_and_the_conversation_goes_on(
    served: Gateway, chromium: Browser, pictures: Path
) -> None:
    """Pieces are seen as they come; the next question has what was said before; the record has both."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        ask(page, "please be slow; say 40 tokens", waits=False)
        words = page.locator(".given .words").last
        expect(words).to_contain_text("word")
        early = words.inner_text()
        page.wait_for_function(
            "n => document.querySelector('.given .words').innerText.length > n", arg=len(early)
        )
        page.locator(".record").wait_for()
        assert answer(page).split() == ["word"] * 40
        ask(page, "echo: and then?")

        told = last_question(served)
        opening, *_ = told["shown"]["records"]
        asked = opening["content"]
        assert [each["role"] for each in asked["messages"]] == ["system", "user", "assistant", "user"]
        assert asked["messages"][1]["content"] == "please be slow; say 40 tokens"
        assert asked["messages"][-1]["content"] == "echo: and then?"
        assert asked["sampling"]["max_tokens"] == 400
        assert asked["principal"]["name"] == "lobby"
        assert asked["caller"]["address"] == "127.0.0.1"
        assert "Chrom" in asked["caller"]["user_agent"]
        assert page.locator(".record").last.inner_text().endswith(f" {opening['seq']}")
        before = json.loads(appliance("audit", "show", str(openings(served.home)[1].seq), "--json",
                                      home=served.home).stdout)["records"][0]["content"]  # fmt: skip
        assert before["annotations"] == asked["annotations"]


def test_example_is_asked_with_one_touch(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """A finger on a big button is a question; buttons are at least 44 CSS pixels high."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        visitor.picture("kiosk-start")
        heights = page.locator("button:visible").evaluate_all("all => all.map((b) => b.offsetHeight)")
        assert min(heights) >= 44
        example = page.locator(".example").first
        words = example.inner_text()
        example.tap()
        page.locator(".record").wait_for()
        assert page.locator(".asked .words").inner_text() == words
        assert answer(page).startswith("You need three things")
        ask(page, "Do I have to make an appointment?")
        assert answer(page).startswith("No.")
        visitor.picture("kiosk-talk")


def test_stop_keeps_what_was_said(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """The answer ends where it is, its request is closed as left, and the next question can be asked."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        ask(page, "please be slow; say 300 tokens", waits=False)
        expect(page.locator(".given .words")).to_contain_text("word")
        page.click("#stop")
        page.get_by_text("The answer was stopped.").first.wait_for()
        request_id = str(openings(served.home)[0].request_id)
        wait_until(lambda: len(query.by_request(place(served.home), request_id)) > 1)
        wait_until(lambda: outcomes(served, request_id))
        assert outcomes(served, request_id) == ["client_gone"]
        ask(page, "echo: next")
        assert answer(page) == "next"


@pytest.mark.parametrize("how", ["silence", "done", "leave"])
def test_cleared_screen_holds_nothing(served: Gateway, chromium: Browser, pictures: Path, how: str) -> None:
    """In the middle of an answer: no word in page, fields, storage or history; the request is closed."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        before = left(page)
        page.click("#larger")
        ask(page, f"echo: {SECRET}")
        ask(page, SLOW, waits=False)
        expect(page.locator(".given .words").last).to_contain_text("word")
        page.fill("#question", f"half typed, {SECRET}")
        request_id = str(openings(served.home)[0].request_id)
        if how == "done":
            page.get_by_role("button", name="Finish and clear").click()
        else:
            page.clock.fast_forward(IDLE_MS - 10_000)
            page.locator("#still[open]").wait_for()
            assert page.get_by_role("dialog", name="Are you still there?").is_visible()
            assert page.locator("#count").inner_text() in {"8", "9", "10"}
            if how == "leave":
                page.get_by_role("button", name="Clear the screen").click()
            else:
                page.clock.fast_forward(11_000)
        page.locator(".example").first.wait_for()
        visitor.picture(f"kiosk-cleared-{how}")

        # What comes late, what an undo could bring back, what a step back could show.
        for key in ("Control+z", "Control+z", "Control+Shift+z"):
            page.focus("#question")
            page.keyboard.press(key)
        after = left(page)
        assert SECRET not in json.dumps(after)
        assert "word word" not in json.dumps(after)
        assert (after["length"], after["address"], after["title"], after["state"]) == (
            before["length"], before["address"], before["title"], None
        )  # fmt: skip
        assert (after["local"], after["session"], after["databases"], after["caches"]) == ({}, {}, [], [])
        page.go_back()
        page.go_forward()
        assert SECRET not in json.dumps(left(page))
        wait_until(lambda: outcomes(served, request_id))
        assert outcomes(served, request_id) == ["client_gone"]


def outcomes(running: Gateway, request_id: str) -> list[str]:
    found = query.by_request(place(running.home), request_id)
    return [str(each.public["outcome"]) for each in found if "outcome" in each.public]


def test_touch_and_key_keep_the_screen(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """Whoever answers the countdown goes on; a screen that nobody used is not cleared at all."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        page.clock.fast_forward(3 * IDLE_MS)
        assert not page.locator("#still").is_visible()
        ask(page, "Do I have to make an appointment?")
        for way in ("touch beside", "button", "Escape"):
            page.clock.fast_forward(IDLE_MS - 5_000)
            page.locator("#still[open]").wait_for()
            assert page.evaluate("document.activeElement.id") == "stay"
            visitor.picture("kiosk-still")
            if way == "touch beside":
                page.touchscreen.tap(20, 900)
            elif way == "button":
                page.get_by_role("button", name="Yes, go on").tap()
            else:
                page.keyboard.press("Escape")
            expect(page.locator("#still")).not_to_be_visible()
        assert answer(page).startswith("No.")


def test_conversation_has_an_end(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """After kiosk.max_turns questions a new conversation is asked for; it begins from nothing."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        for number in range(8):
            ask(page, f"echo: {number}")
        assert page.get_by_text("This conversation is complete").first.is_visible()
        assert page.locator("#question").is_disabled()
        page.get_by_role("button", name="Finish and clear").click()
        ask(page, "echo: fresh")
        messages = last_question(served)["shown"]["records"][0]["content"]["messages"]
        assert [each["role"] for each in messages] == ["system", "user"]


HOSTILE = (
    "echo: <img src=x onerror=document.title='pwned'><script>document.title='pwned'</script> {{7*7}} "
    "[a](javascript:alert(1)) <a href=//evil.example>b</a> \u202edesrever\u202c\x1b[31m ␤␤- one ␤- **two**"
    "␤␤1. first␤␤# Heading␤```␤<b>code</b>␤```"
)


def test_what_a_model_writes_is_text(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """Markup, scripts, links, templates and steering characters stay words; lists and bold are drawn."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        ask(page, HOSTILE)
        shown = answer(page)
        visitor.picture("kiosk-hostile")

        assert "<img src=x onerror=" in shown
        assert "{{7*7}}" in shown
        assert page.title() == "Ask a question"
        assert not set(shown) & {"\u202e", "\u202c", "\x1b"}
        kinds = page.locator(".given .words *").evaluate_all("all => all.map((e) => e.localName)")
        assert kinds == ["p", "ul", "li", "li", "strong", "ol", "li", "p", "strong", "pre"]
        assert page.locator("#kiosk a, #kiosk script, .turn img").count() == 0


def test_worker_that_dies_is_told_in_plain_words(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """A sentence for the visitor, a small code for the staff, and another try when the model is back."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        ask(page, "please crash; say 100 tokens", waits=False)
        page.locator(".note.problem").wait_for()
        assert "No answer can be given at the moment" in page.inner_text(".note.problem")
        assert "engine_failed · req_" in page.inner_text(".code")
        served.wait_ready()
        page.clock.fast_forward(10_000)
        page.locator("body[data-state=ready]").wait_for()
        ask(page, "echo: back")
        assert answer(page) == "back"


def test_field_takes_no_more_than_a_question(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """What is typed ends where kiosk.max_question_characters says; the server holds it too (test_lobby)."""
    with screen(served, chromium, pictures) as visitor:
        visitor.page.focus("#question")
        visitor.page.keyboard.insert_text("x" * 1010)
        assert len(visitor.page.input_value("#question")) == 1000


def test_revoked_key_leads_to_the_set_up_page(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """At the next question, or by itself; and the page comes back by itself when there is a key again."""
    with screen(served, chromium, pictures, name="lobby-2") as visitor:
        page = visitor.page
        served.command(RevokeKey(name_or_id="lobby-2"))
        ask(page, "echo: too late", waits=False)
        page.get_by_role("heading", name="being set up").wait_for()
        visitor.picture("kiosk-waiting")
        assert "too late" not in page.content()
        visitor.context.add_cookies(
            [{"name": "kiosk", "value": served.key(Role.KIOSK), "url": served.console_url}]
        )
        page.clock.fast_forward(11_000)
        page.locator(".example").first.wait_for()


def test_closed_log_closes_the_screen_until_it_is_open_again(
    tmp_path: Path, chromium: Browser, pictures: Path
) -> None:
    """A calm page while nothing can be recorded, without a reload by anybody; then it works again."""
    with gateway(tmp_path / "home") as running:
        with screen(running, chromium, pictures) as visitor:
            page = visitor.page
            aside = running.home.database.with_name("aside")
            running.home.database.rename(aside)
            page.clock.fast_forward(11_000)
            page.get_by_role("heading", name="Not available at the moment").wait_for()
            visitor.picture("kiosk-closed")
            assert page.locator("#question").is_disabled()
            assert not page.locator(".example").first.is_visible()
            aside.rename(running.home.database)
            appliance("audit", "recover", home=running.home)
            page.clock.fast_forward(4_000)
            page.locator(".example").first.wait_for()
            ask(page, "echo: open again")
            assert answer(page) == "open again"
            stopped = running.stop()
            page.clock.fast_forward(11_000)
            page.get_by_text("There is no connection").first.wait_for()
            assert stopped == 0
        assert_verified(running.home)


def spoken(page: Page) -> str:
    return page.locator("#spoken").inner_text()


def test_screen_works_by_keyboard_and_is_heard(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """Tab reaches everything in order; the answer is said politely and once; names are there for readers."""
    with screen(served, chromium, pictures, size=DESKTOP) as visitor:
        page = visitor.page
        order = []
        for _ in range(8):
            page.keyboard.press("Tab")
            order.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert order == ["smaller", "larger", *["example"] * 4, "question", "ask"]
        page.focus("#question")
        page.keyboard.type("echo: First sentence. Second sentence.")
        page.keyboard.press("Enter")
        page.locator(".record").wait_for()
        assert page.get_attribute("#spoken", "aria-live") == "polite"
        assert spoken(page).split("…")[1].strip() == "First sentence. Second sentence."
        assert page.evaluate("document.activeElement.id") == "question"
        assert page.get_by_role("textbox", name="Your question").is_visible()
        assert page.locator("#question").get_attribute("aria-describedby") == "notice"
        assert page.locator("#notice").inner_text().startswith("Questions and answers are recorded")
        levels = page.locator("h1, h2:visible, h3").evaluate_all("all => all.map((e) => e.localName)")
        assert levels[0] == "h1"
