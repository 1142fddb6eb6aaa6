"""The lobby's screen with the real worker and the starter model: what `make run` serves."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.lobby import answer, ask, last_question, screen
from tests.harness import gateway


@pytest.mark.model
def test_starter_model_answers_on_the_screen(tmp_path: Path, chromium: Browser, pictures: Path) -> None:
    """An example and a question behind it: words, a receipt for each, one conversation on the record."""
    with gateway(tmp_path / "home", worker="model", toml="[kiosk]\nmax_tokens = 48\n") as running:
        running.wait_ready()
        with screen(running, chromium, pictures) as visitor:
            page = visitor.page
            page.locator(".example").first.tap()
            page.locator(".record").wait_for()
            ask(page, "Can my brother do that for me?")
            visitor.picture("kiosk-model")

            assert all(len(answer(page, index).split()) > 3 for index in (0, 1))
            opening = last_question(running)["shown"]["records"][0]
            assert opening["content"]["messages"][2]["content"].startswith(answer(page, 0).split()[0])
