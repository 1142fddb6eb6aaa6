"""The lobby's page in each language, on each kind of screen: everything is there, and nothing sticks out."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route

from appliance import config
from appliance.config import Kiosk
from appliance.console import language
from appliance.console.language import Language
from appliance.console.render import Pages
from tests.browser.lobby import screen
from tests.browser.rooms import LOBBY
from tests.harness import Gateway

SIZES = {
    "upright": LOBBY,
    "wide": {"width": 1920, "height": 1080},
    "tablet": {"width": 800, "height": 600},
}
# What a person must be able to see and touch on the first look, without scrolling.
ALWAYS = ("h1", "#smaller", "#larger", "#question", "#ask", "#notice")
OUTSIDE = """(names) => names.filter((name) => {
  const box = document.querySelector(name).getBoundingClientRect();
  const isIn = box.left > -1 && box.top > -1 && box.right < innerWidth + 1 && box.bottom < innerHeight + 1;
  return box.width < 1 || !isIn;
})"""


def page_in(code: str) -> str:
    pages = Pages("test/audit/1", "1", [], is_dev=False)
    words = language.words_of(Kiosk(language=code))
    values = {"words": words, "recorded": longer(words), "settings": Kiosk(), "is_open": True}
    return pages.text(None, "kiosk/page.html", values)


def longer(words: Language) -> str:
    """Of the two notices the one that needs more room."""
    return max(words.notice, words.notice_metadata, key=len)


def test_pages_in_every_language(served: Gateway, chromium: Browser, pictures: Path) -> None:
    """Language and direction are marked, all of it fits at normal and at the largest text."""
    with screen(served, chromium, pictures) as visitor:
        page = visitor.page
        html = ""

        def serve(route: Route) -> None:
            route.fulfill(body=html, content_type="text/html")

        page.route("**/kiosk", serve)
        for code in language.codes():
            html = page_in(code)
            visitor.open("/kiosk")
            page.locator(".example").first.wait_for()
            visitor.picture(f"kiosk-{code}")
            for name, size in SIZES.items():
                page.set_viewport_size({"width": size["width"], "height": size["height"]})
                assert page.evaluate(OUTSIDE, list(ALWAYS)) == [], (code, name)
                page.evaluate("for (let n = 0; n < 3; n += 1) document.querySelector('#larger').click()")
                assert page.evaluate(OUTSIDE, [*ALWAYS, "#done"]) == [], (code, name, "largest")
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (code, name)
                page.evaluate("for (let n = 0; n < 3; n += 1) document.querySelector('#smaller').click()")
            page.set_viewport_size({"width": LOBBY["width"], "height": LOBBY["height"]})
            root = page.locator("html")
            told = language.load(code)
            assert (root.get_attribute("lang"), root.get_attribute("dir")) == (code, told.direction)
            assert page.evaluate("getComputedStyle(document.body).direction") == told.direction
            assert page.locator(".example").all_inner_texts() == list(told.examples)
            assert page.locator("#notice").inner_text() == longer(told)


def test_agencys_own_words_take_the_place_of_ours() -> None:
    """What the configuration says is shown; what it leaves empty comes from the language."""
    own = 'title = "Bürgeramt <Mitte>"\nexamples = ["Wo bin ich?"]\nsystem_prompt = "S"\n'
    toml = f'[kiosk]\nlanguage = "de"\n{own}'
    words = language.words_of(config.parse(toml).kiosk)

    assert (words.title, words.examples, words.system) == ("Bürgeramt <Mitte>", ("Wo bin ich?",), "S")
    assert (words.welcome, words.notice) == (language.load("de").welcome, language.load("de").notice)


@pytest.mark.parametrize("code", language.codes())
def test_every_language_is_whole(code: str) -> None:
    """Loading proves that no key is missing; no text of another language was left standing."""
    told = {name: getattr(language.load(code), name) for name in language.Language.__struct_fields__}
    english = {name: getattr(language.load("en"), name) for name in language.Language.__struct_fields__}
    same = {name for name in told if told[name] == english[name]} - {
        "direction",
        "stop",
        "conversation",
        "record",
    }

    assert code == "en" or same == set()
    assert len(told["examples"]) == len(english["examples"])
