"""What auditors do at the console, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Download, Page

from appliance.core import Role
from tests.browser.rooms import Seat

WORDS = "seven purple horses sing"  # the passphrase of an identity
PURPOSE = "a complaint of 12 November"
CASE = "2026-17"


@dataclass
class Auditor:
    """An auditor at their seat, and every address that their browser asked for."""

    seat: Seat
    name: str = "Ada Kim"
    addresses: list[str] = field(default_factory=list)

    @property
    def page(self) -> Page:
        return self.seat.page

    def sit_down(self) -> Auditor:
        """The first log-in."""
        self.seat.context.on("request", lambda request: self.addresses.append(request.url))
        self.seat.log_in(self.name, Role.AUDITOR)
        return self

    def search(self, **fields: str) -> None:
        """The form, with these fields and a purpose."""
        self.seat.open("/search")
        self.page.fill("#purpose", PURPOSE)
        self.page.fill("#case", CASE)
        for name, value in fields.items():
            if not self.page.is_visible(f"#{name}"):
                self.page.get_by_text("More filters").click()
            if name in {"look", "time", "order", "kinds"}:
                self.page.select_option(f"#{name}", value)
            else:
                self.page.fill(f"#{name}", value)
        self.press("Search")

    def press(self, name: str) -> None:
        """A button that leads to another page, and wait for that page."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).first.click()

    def follow(self, name: str) -> None:
        """A link, likewise."""
        with self.page.expect_navigation():
            self.page.get_by_role("link", name=name, exact=True).first.click()

    def found(self) -> list[str]:
        """The numbers of the entries on the page."""
        return self.page.locator("table.found tbody tr td:first-child").all_inner_texts()

    def store(self, identity: Path) -> None:
        """Bring an identity file, under a passphrase."""
        self.seat.open("/identity")
        self.page.set_input_files("#file", str(identity))
        self.page.fill("#store-passphrase", WORDS)
        self.page.fill("#store-again", WORDS)
        self.press("Store it")

    def unlock(self) -> None:
        """For this session."""
        self.seat.open("/identity")
        self.page.fill("#unlock-passphrase", WORDS)
        self.press("Unlock")

    def open_first(self) -> None:
        """The first entry of a result."""
        with self.page.expect_navigation():
            self.page.locator("table.found tbody a").first.click()

    def read(self) -> None:
        """The contents, on the record page."""
        self.press("Read it")

    def export(self, form: str) -> Download:
        """A file of evidence, from a page of an exchange."""
        self.follow("Evidence …")
        self.page.check(f"input[name=form][value={form}]")
        with self.page.expect_download() as waiting:
            self.page.get_by_role("button", name="Make the file").first.click()
        return waiting.value

    def verify(self) -> None:
        """Everything, and wait for the result."""
        self.seat.open("/log")
        self.press("Verify everything")
        self.page.locator("#last ~ p .mark.big").wait_for(timeout=60_000)
