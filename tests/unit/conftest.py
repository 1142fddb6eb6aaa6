"""What tests of people's ways in share: a log that is open behind the moment at which its home was made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance import config
from appliance.alone import Alone, open_log_alone
from appliance.config import Home
from tests.clocks import ManualClock
from tests.slowness import quicken


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow function with a small parameter: for those who ask often (the real one: test_passphrases)."""
    quicken(monkeypatch)


@pytest.fixture
def alone(home: Home, clock: ManualClock) -> Iterator[Alone]:
    with open_log_alone(home, config.load(home), clock) as opened:
        yield opened
