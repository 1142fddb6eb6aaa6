"""Roots, unpacked once for a run; every test here needs root, and fails in CI where it can not be had."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.offline import releases, roots, times
from tests.offline.box import require_root
from tests.offline.host import Host
from tests.offline.releases import Sticks
from tests.offline.roots import SYSTEMS, System


@pytest.fixture(scope="session", autouse=True)
def _as_root() -> None:
    require_root()


@pytest.fixture(scope="session")
def root_of() -> dict[System, Path]:
    """Where each system's root lies; nobody writes there. Missing is an error that says what to do."""
    return {each: roots.require(each) for each in SYSTEMS}


@pytest.fixture(scope="session")
def sticks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sticks]:
    """The bundles of this run, and the paper."""
    folder = tmp_path_factory.mktemp("sticks")
    yield releases.make(folder)
    shutil.rmtree(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A step of a life that fails takes the ground from those behind it."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.failed and isinstance(host, Host):
        host.failed = host.failed or item.name
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """From the stick to the first answer: what a release tells."""
    for suite, known in sorted(times.read().items()):
        terminalreporter.write_line(
            f"{suite}: from stick to first answer {known['stick_to_first_answer_seconds']} s, "
            f"{known['bundle_bytes'] / 1e6:.0f} MB carried in (Python {', '.join(known['pythons'])})"
        )
