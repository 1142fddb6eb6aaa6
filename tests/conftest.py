"""Shared ground: no network but loopback, here and in every process that a test starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Home
from tests.clocks import ManualClock
from tests.homes import copy_home
from tests.starter import starter_model

NETGUARD = Path(__file__).with_name("netguard")


@pytest.fixture(scope="session", autouse=True)
def children_without_network() -> Iterator[None]:
    """pytest-socket guards this process; `sitecustomize` guards the Python processes it starts."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "APPLIANCE_HOME")}
    root = Path(__file__).parent.parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(NETGUARD), str(root)])
    os.environ.pop("APPLIANCE_HOME", None)
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture
def clock() -> ManualClock:
    """Time that only the test moves."""
    return ManualClock()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An initialised dev home with the starter model in its store."""
    return copy_home(tmp_path / "home")


@pytest.fixture(scope="session")
def starter_model_path() -> Path:
    """The GGUF that set-up fetched. Missing is an error, not a reason to skip."""
    return starter_model()
