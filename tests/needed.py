"""What a test needs of its machine: without it the test is skipped, but the build server must have it."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip; fail where CI=true: .ci/run installs what tests need, so there it is a fault."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need(program: str, *, package: str) -> str:
    """Where the program lies; skips or fails where it does not. `package` is Debian's."""
    found = shutil.which(program)
    if found is None:
        missing(f"{program} is not installed (Debian: apt install {package})")
    return found
