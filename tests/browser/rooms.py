"""A person at a browser: Debian's Chromium, headless, in front of a real gateway.

Every page that a test opens is watched: no request may leave for another host, no script may fail, and the
content security policy must hold. Pictures land in `$TEST_PICTURES`, or else beside the test's own files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from appliance.commands import CreateAccount
from appliance.core import Role
from tests.harness import Gateway

DESKTOP = {"width": 1280, "height": 900}
LOBBY = {"width": 1080, "height": 1920}  # an upright screen that people touch
PASSPHRASE = "four words are enough"


@dataclass
class Seat:
    """One person's browser, and everything that it must not have done."""

    gateway: Gateway
    context: BrowserContext
    page: Page
    pictures: Path
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """A page of the console."""
        self.page.goto(self.gateway.console_url + path)
        return self.page

    def log_in(self, name: str, role: Role) -> Page:
        """A new account, its first log-in, and a passphrase of its own."""
        made = self.gateway.command(CreateAccount(name=name, role=role, replace=True))
        self.enter(name, str(made["passphrase"]))
        self.page.fill("#current", str(made["passphrase"]))
        self.page.fill("#new", PASSPHRASE)
        self.page.fill("#again", PASSPHRASE)
        self.page.get_by_role("button", name="Change it").click()
        return self.page

    def enter(self, name: str, passphrase: str) -> None:
        """The form at the entrance."""
        self.open("/login")
        self.page.fill("#name", name)
        self.page.fill("#passphrase", passphrase)
        self.page.get_by_role("main").get_by_role("button", name="Log in").click()

    def picture(self, name: str, *, whole: bool = True) -> Path:
        """What the person sees, as a file."""
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path, full_page=whole)
        return path


def chromium() -> str | None:
    """Debian's browser, where it is installed."""
    return shutil.which("chromium")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """One browser process; each person gets a context of their own."""
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox does not run as root
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium(), args=options)
        try:
            yield running
        finally:
            running.close()


@contextlib.contextmanager
def seat(
    gateway: Gateway,
    running: Browser,
    pictures: Path,
    *,
    size: dict[str, int] = DESKTOP,
    javascript: bool = True,
    dark: bool = False,
) -> Iterator[Seat]:
    """Somebody sits down; when they leave, what the browser did is looked at."""
    context = running.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        java_script_enabled=javascript,
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
        has_touch=size is LOBBY,
    )
    page = context.new_page()
    taken = Seat(gateway, context, page, Path(os.environ.get("TEST_PICTURES") or pictures))
    taken.pictures.mkdir(parents=True, exist_ok=True)
    own = {urlsplit(each).netloc for each in (gateway.console_url, gateway.url)}

    def watch(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob", "about"} and parts.netloc not in own:
            taken.foreign.append(url)

    def listen(message: ConsoleMessage) -> None:
        # A refused form is a page with its status: Chromium reports that as an error of loading.
        if message.type == "error" and "Failed to load resource" not in message.text:
            taken.complaints.append(message.text)

    context.on("request", lambda request: watch(request.url))
    page.on("console", listen)
    page.on("pageerror", lambda error: taken.complaints.append(str(error)))
    try:
        yield taken
        assert taken.foreign == [], "a page asked another host"
        assert taken.complaints == [], "a page broke its own rules"
    finally:
        context.close()
