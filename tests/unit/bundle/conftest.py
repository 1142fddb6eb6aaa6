"""A host that nobody installed anything on, and the people who sign for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bundle.layout import Site
from tests import signed
from tests.signed import Office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return signed.office(tmp_path / "roots")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "host")
