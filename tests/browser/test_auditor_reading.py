"""Reading at the console: with an identity here, with two readers, without JavaScript, by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from appliance.audit import proof, query
from appliance.audit.files import read_verifier
from appliance.audit.policy import Reading
from appliance.core import Role
from tests.browser.auditors import PURPOSE, WORDS, Auditor
from tests.browser.rooms import seat
from tests.cases import HOSTILE, make_place
from tests.harness import Gateway, appliance
from tests.starter import link_into

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
SECRET = "the colour of the folder is lavender"


@pytest.fixture(scope="module")
def asked(served: Gateway) -> Gateway:
    """A gateway that was asked something, by a program that says as much hostile text as it can."""
    answer = served.chat(f"echo: {SECRET}", user="citizen-17", metadata={"note": HOSTILE})
    assert answer.status_code == 200, answer.text
    hostile = served.chat(f"echo: {HOSTILE}", user=HOSTILE)
    assert hostile.status_code == 200, hostile.text
    return served


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, list[Path]]]:
    """A gateway whose record opens for two readers together only, and their identity files."""
    folder = tmp_path_factory.mktemp("paired")
    place = make_place(folder / "home", reading=Reading.TWO)
    link_into(place.home)
    paths = []
    for each in place.readers:
        path = folder / f"{each.name}.identity"
        path.write_text(each.text())
        paths.append(path)
    running = Gateway(home=place.home)
    try:
        yield running.start(), paths
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def identity_of(running: Gateway) -> Path:
    return running.home.keys / "dev-auditor.identity"


def test_two_readers_open_what_one_can_not(
    paired: tuple[Gateway, list[Path]], chromium: Browser, pictures: Path
) -> None:
    """Where the key policy wants two, the second comes to the screen; until then nothing is read."""
    running, (first, second) = paired
    running.chat(f"echo: {SECRET}", user="citizen-17")
    with seat(running, chromium, pictures) as other:
        Auditor(other, name="Bob Vance").sit_down().store(second)
    with seat(running, chromium, pictures) as person:
        auditor = Auditor(person, name="Alice Moor").sit_down()
        auditor.store(first)
        auditor.unlock()
        auditor.search(user="citizen-17")
        auditor.open_first()
        assert auditor.page.get_by_role("button", name="Read it").is_disabled()
        assert "1 of 2 identities" in auditor.page.inner_text("main")
        person.open("/identity")
        auditor.page.fill("#second-name", "Bob Vance")
        auditor.page.fill("#second-passphrase", "not the right words")
        auditor.press("Unlock theirs")
        assert auditor.page.get_by_role("alert").is_visible()
        auditor.page.fill("#second-name", "Bob Vance")
        auditor.page.fill("#second-passphrase", WORDS)
        auditor.press("Unlock theirs")
        person.picture("auditor-two")
        auditor.search(user="citizen-17")
        auditor.open_first()
        auditor.read()
        assert SECRET in auditor.page.inner_text("main")


def test_nothing_that_was_read_is_left_behind_the_lock(
    asked: Gateway, chromium: Browser, pictures: Path
) -> None:
    """Locked means that the page of a reading, and the way back to it, show nothing any more."""
    with seat(asked, chromium, pictures) as person:
        auditor = Auditor(person, name="Ann Lee").sit_down()
        auditor.store(identity_of(asked))
        auditor.unlock()
        auditor.search(user="citizen-17")
        auditor.open_first()
        auditor.read()
        address = auditor.page.url
        assert SECRET in auditor.page.inner_text("main")
        person.open("/identity")
        auditor.press("Lock")
        auditor.page.goto(address)
        assert SECRET not in auditor.page.content()
        assert "not kept any more" in auditor.page.inner_text("main")


def test_an_identity_opens_for_its_passphrase_only(asked: Gateway, chromium: Browser, pictures: Path) -> None:
    """A wrong passphrase, a file that is none, and a stranger's identity are each refused with a reason."""
    with seat(asked, chromium, pictures) as person:
        auditor = Auditor(person, name="Bo Kerr").sit_down()
        person.open("/identity")
        auditor.page.fill("#pasted", "not an identity")
        auditor.page.fill("#store-passphrase", WORDS)
        auditor.page.fill("#store-again", WORDS)
        auditor.press("Store it")
        assert "not an auditor's identity" in auditor.page.get_by_role("alert").inner_text()
        auditor.store(identity_of(asked))
        auditor.page.fill("#unlock-passphrase", "five yellow horses sing")
        auditor.press("Unlock")
        assert "not the passphrase" in auditor.page.get_by_role("alert").inner_text()
        assert "Locked" in auditor.page.inner_text("#now ~ p")


def test_a_sealed_case_opens_on_another_machine(
    asked: Gateway, chromium: Browser, pictures: Path, tmp_path: Path
) -> None:
    """No identity comes to the box: the case and a proof leave, and are opened and checked elsewhere."""
    case, one = tmp_path / "case.zip", tmp_path / "one.tlog-proof"
    with seat(asked, chromium, pictures) as person:
        auditor = Auditor(person, name="Cal Berg").sit_down()
        auditor.search(user="citizen-17")
        seq = int(auditor.found()[-1])
        auditor.page.get_by_role("link", name=str(seq), exact=True).click()
        with auditor.page.expect_download() as waiting:
            auditor.page.get_by_role("button", name=f"Proof of entry {seq}").click()
        waiting.value.save_as(one)
        auditor.export("sealed").save_as(case)
        person.open("/evidence")
        assert auditor.page.is_disabled("input[value=opened]")

    vkey = asked.home.keys / "log.vkey"
    opened = appliance("audit", "open", str(case), "--identity", str(identity_of(asked)), "--vkey", str(vkey))
    assert SECRET in opened.stdout
    (record,) = [each for each in query.search(asked.home.database, limit=1000) if each.seq == seq]
    assert proof.verify(proof.parse(one.read_bytes()), record.leaf, read_verifier(asked.home)).size > seq


def test_without_javascript_everything_works(asked: Gateway, chromium: Browser, pictures: Path) -> None:
    """Search, reading, finding a text, verifying and its progress: scripts only save a click."""
    with seat(asked, chromium, pictures, javascript=False) as person:
        auditor = Auditor(person, name="Cat Hale").sit_down()
        auditor.store(identity_of(asked))
        auditor.unlock()
        auditor.search(user="citizen-17")
        address = auditor.page.url
        auditor.open_first()
        auditor.read()
        assert SECRET in auditor.page.inner_text("main")
        auditor.page.goto(address)
        auditor.page.fill("#text", "LAVENDER")
        auditor.press("Find")
        again = auditor.page.get_by_role("link", name="Look again")
        while again.is_visible():
            auditor.follow("Look again")
        assert SECRET in auditor.page.locator("td.excerpt").first.inner_text()
        person.picture("auditor-text")
        person.open("/log")
        auditor.press("Verify everything")
        while again.is_visible():
            auditor.follow("Look again")
        assert "Green" in auditor.page.inner_text("main")


def test_by_keyboard_alone(asked: Gateway, chromium: Browser, pictures: Path) -> None:
    """From the skip link to an opened entry, with Tab, letters and Enter."""
    with seat(asked, chromium, pictures) as person:
        auditor = Auditor(person, name="Dot Fry").sit_down()
        page = person.open("/search")

        def tab_to(selector: str, *, most: int = 60) -> None:
            target = page.locator(selector).first
            for _ in range(most):
                if target.evaluate("each => each === document.activeElement"):
                    return
                page.keyboard.press("Tab")
            raise AssertionError(f"{selector} is not reached by Tab")

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        tab_to("#purpose")
        page.keyboard.type(PURPOSE)
        tab_to("#user")
        page.keyboard.type("citizen-17")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search/*")
        tab_to("table.found tbody a")
        page.keyboard.press("Enter")
        page.wait_for_url("**/record/*")
        tab_to("summary")
        page.keyboard.press("Enter")
        expect(page.locator("dl.header").first).to_be_visible()
        assert auditor.page.get_by_text("Proven in the tree").is_visible()


def test_hostile_text_is_inert_everywhere(asked: Gateway, chromium: Browser, pictures: Path) -> None:
    """Markup, templates, bidi, escapes and line ends of callers and searchers are shown and do nothing."""
    with seat(asked, chromium, pictures) as person:
        auditor = Auditor(person, name="Eve <b>{{7*7}}").sit_down()
        auditor.store(identity_of(asked))
        auditor.unlock()
        shown = []
        auditor.search(look="everything", request_id="<script>alert(1)</script>{{7*7}}\u202e")
        shown.append(auditor.page.content())
        auditor.search(user="citizen-17")
        auditor.open_first()
        auditor.read()
        shown.append(auditor.page.content())
        auditor.search(look="exchanges")
        auditor.page.fill("#label", "<script>alert(2)</script>{{7*7}}")
        auditor.press("Save")
        shown.append(auditor.page.content())
        auditor.open_first()
        auditor.read()
        shown.append(auditor.page.content())
        person.open("/search")
        shown.append(auditor.page.content())
        assert auditor.page.locator("main script, main b").count() == 0

    text = "".join(shown)
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "<script>alert" not in text
    assert "{{7*7}}" in text
    assert "⟨U+202E⟩" in text


def test_a_review_is_due_until_somebody_says_that_they_looked(
    paired: tuple[Gateway, list[Path]], chromium: Browser, pictures: Path
) -> None:
    """The record says who looked through which entries; the page stops to ask for it."""
    with seat(paired[0], chromium, pictures) as person:
        auditor = Auditor(person, name="Fay Rowe").sit_down()
        person.open("/reviews")
        assert "A review is due" in auditor.page.inner_text("main")
        auditor.page.fill("#note", "nothing unusual")
        auditor.press("I have looked through it")
        assert "Reviewed" in auditor.page.inner_text("main")
        assert auditor.page.locator("#done ~ div tbody tr").count() == 1
        person.picture("auditor-reviews")


def test_a_saved_search_is_ones_own_and_names_nobody(
    asked: Gateway, chromium: Browser, pictures: Path
) -> None:
    """It comes back with its filters, without the person; another auditor does not see it."""
    with seat(asked, chromium, pictures) as person:
        auditor = Auditor(person, name="Gil Shaw").sit_down()
        auditor.search(look="refusals", codes="model_not_found", user="citizen-17")
        auditor.page.fill("#label", "wrong models")
        auditor.press("Save")
        assert "not saved" in auditor.page.get_by_role("status").inner_text()
        person.open("/search")
        auditor.follow("wrong models")
        assert auditor.page.input_value("#codes") == "model_not_found"
        assert auditor.page.input_value("#look") == "refusals"
        assert auditor.page.input_value("#user") == ""
    with seat(asked, chromium, pictures) as other:
        page = Auditor(other, name="Hal Quin").sit_down().page
        assert page.get_by_role("link", name="wrong models").count() == 0


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.PRIVACY, Role.ADMIN])
def test_nobody_else_opens_the_auditors_pages(
    asked: Gateway, chromium: Browser, pictures: Path, role: Role
) -> None:
    """Whoever runs the box or decides about erasures neither searches nor reads."""
    with seat(asked, chromium, pictures) as person:
        person.log_in(f"Someone {role}", role)
        for path in ("/search", "/evidence", "/reviews", "/log", "/record/1", "/evidence/1"):
            page = person.open(path)
            assert "does not allow" in page.inner_text("main"), path


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {"type": "object"},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}


def test_tools_and_several_answers_stand_on_the_page(
    asked: Gateway, chromium: Browser, pictures: Path
) -> None:
    """Calls and what came back are turns; tools and log-probabilities are folded; answers stand apart."""
    options: dict[str, Any] = {
        "tools": [TOOL], "n": 2, "logprobs": True, "top_logprobs": 2, "stream": True, "user": "citizen-21",
    }  # fmt: skip
    turns = [
        {"role": "user", "content": "What is the weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain, 4 degrees"},
        {"role": "user", "content": "echo: Rain, at 4 degrees."},
    ]
    with asked.client() as client:
        answer = client.post("/v1/chat/completions", json={"model": "default", "messages": turns, **options})
    assert answer.status_code == 200, answer.text
    with seat(asked, chromium, pictures) as person:
        auditor = Auditor(person, name="Cleo Park").sit_down()
        auditor.store(identity_of(asked))
        auditor.unlock()
        auditor.search(user="citizen-21")
        auditor.open_first()
        auditor.read()
        page = auditor.page
        said = [each.inner_text() for each in page.locator("section[aria-labelledby=asked] > .turn h3").all()]
        assert [each.lower() for each in said] == [
            "user", "assistant, calls weather (call_1)", "tool, for call_1", "user",
        ]  # fmt: skip
        answers = page.locator("section[aria-labelledby=answered] > .turn")
        assert [each.inner_text().split("\n")[-1] for each in answers.all()] == ["Rain, at 4 degrees."] * 2
        assert "over all answers, one after the other" in page.inner_text("main")
        assert not page.get_by_text("The weather of a place").is_visible()
        page.get_by_text("Tools that the model might call").click()
        page.get_by_text("How likely its tokens were").first.click()
        expect(page.get_by_text("The weather of a place")).to_be_visible()
        person.picture("auditor-tools")
