"""Real Chromium, one process for all tests of this folder. Missing is a failure in CI, else a skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import rooms
from tests.harness import Gateway, gateway
from tests.needed import missing


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser. It goes with this folder: its driver keeps an event loop, which other tests want alone."""
    if rooms.chromium() is None:
        missing("chromium is not installed: deploy/bootstrap/test-tools.sh names the packages")
    with rooms.browser() as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway over the fake worker, shared by the tests of one file."""
    with gateway(tmp_path_factory.mktemp("console") / "home") as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where the pictures of a test go."""
    return tmp_path / "pictures"
