"""A release on probation: it serves, and is looked at again and again. Enough good looks, and it is
committed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from appliance.bundle.install.programs import Program, ProgramFailed
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit

_START_SECONDS: Final = 600.0  # until the model is loaded
_RETRY_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How long, how many looks, and which share of them must be good. The first and the last always must."""

    seconds: float = 120.0
    looks: int = 12
    share: float = 0.75
    start_seconds: float = _START_SECONDS


def watch(site: Site, program: Program, terms: Terms, tell: Callable[[int, int], None]) -> dict[str, Any]:
    """What the last look said. BundleRefused (41) where too few were good."""
    first = wait(site, program, terms.start_seconds)
    good, last, reason = 1, first, ""
    for number in range(2, terms.looks + 1):
        tell(number - 1, terms.looks)
        time.sleep(terms.seconds / max(1, terms.looks - 1))
        try:
            # An answer of the model in the last look again; between, whether it could give one.
            last = look(site, program, generate=number == terms.looks)
            good += 1
        except ProgramFailed as error:
            reason = error.message
            if number == terms.looks:
                raise _unhealthy(reason) from error
    tell(terms.looks, terms.looks)
    if good < math.ceil(terms.looks * terms.share):
        raise _unhealthy(f"{good} of {terms.looks} looks were good: {reason}")
    return last


def wait(site: Site, program: Program, seconds: float) -> dict[str, Any]:
    """The first good look, with an answer of the model. BundleRefused (41) where none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return look(site, program, generate=True)
        except ProgramFailed as error:
            if time.monotonic() >= deadline:
                raise _unhealthy(error.message) from error
            time.sleep(_RETRY_SECONDS)


def look(site: Site, program: Program, *, generate: bool) -> dict[str, Any]:
    """Ask the running gateway for its own test: ready, and one answer with its record. ProgramFailed
    otherwise.
    """
    words = ["doctor", "--live", "--home", str(site.home), *([] if generate else ["--no-answer"])]
    return program.ask(*words, seconds=_LOOK_SECONDS)


def _unhealthy(reason: str) -> BundleRefused:
    return BundleRefused(Exit.UNHEALTHY, f"the release is not healthy: {reason}")
