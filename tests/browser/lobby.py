"""A lobby's screen in a test: set up as the staff does it, or at once, and what is left of a conversation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from appliance.commands import CreateKey
from appliance.core import Role
from tests.browser.rooms import LOBBY, Seat, seat
from tests.harness import Gateway, appliance
from tests.records import openings

# All that a page could have kept, and everything that it shows: also what is hidden, and what fields hold.
LEFT = """async () => JSON.stringify({
  html: document.documentElement.outerHTML,
  fields: [...document.querySelectorAll("input, textarea")].map((each) => each.value),
  selection: String(getSelection()),
  local: {...localStorage}, session: {...sessionStorage},
  databases: (await indexedDB.databases()).map((each) => each.name),
  caches: self.caches ? await caches.keys() : [],
  address: location.href, title: document.title, state: history.state, length: history.length,
  cookies: document.cookie, name: window.name,
})"""


@contextlib.contextmanager
def screen(
    gateway: Gateway, chromium: Browser, pictures: Path, *, size: dict[str, int] = LOBBY, name: str = "lobby"
) -> Iterator[Seat]:
    """A screen that holds a key of its own and shows its page. The page's clock is the test's to move."""
    made = gateway.command(CreateKey(name=name, role=Role.KIOSK, replace=True))
    with seat(gateway, chromium, pictures, size=size) as taken:
        taken.context.add_cookies(
            [
                {
                    "name": "kiosk",
                    "value": made["token"],
                    "url": gateway.console_url,
                    "httpOnly": True,
                    "sameSite": "Strict",
                }
            ]
        )
        taken.page.clock.install()
        taken.open("/kiosk")
        yield taken


def ask(page: Page, question: str, *, waits: bool = True) -> None:
    """Type it and touch Ask; with `waits`, until the answer has ended."""
    before = page.locator(".turn").count()
    page.fill("#question", question)
    page.click("#ask")
    if waits:
        page.locator(".turn").nth(before).locator(".record").wait_for()


def answer(page: Page, index: int = -1) -> str:
    """What the screen shows as the answer."""
    return page.locator(".given .words").nth(index).inner_text()


def left(page: Page) -> dict[str, Any]:
    """Everything that a page holds."""
    told: dict[str, Any] = json.loads(page.evaluate(LEFT))
    return told


def last_question(gateway: Gateway) -> dict[str, Any]:
    """What the record has of the newest request: its request id, and what an auditor reads of it."""
    newest = openings(gateway.home)[0]
    shown = appliance("audit", "show", str(newest.seq), "--json", home=gateway.home).stdout
    told: dict[str, Any] = json.loads(shown)
    return {"request_id": newest.request_id, "shown": told}
