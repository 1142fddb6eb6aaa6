"""How long a life's acts took, and how many bytes were carried in: kept in the cache, told at the end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.offline import roots
from tests.offline.host import Host


def place() -> Path:
    """`{suite: {"stick_to_first_answer_seconds": …, "bundle_bytes": …, …}}`, of the last run."""
    return roots.cache() / "times.json"


@contextlib.contextmanager
def told(host: Host, name: str) -> Iterator[None]:
    """Remember how long this takes."""
    began = time.monotonic()
    yield
    host.times[name] = time.monotonic() - began


def read() -> dict[str, Any]:
    """What the last runs took; empty where there was none."""
    try:
        found: dict[str, Any] = json.loads(place().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def write(host: Host) -> None:
    """Add this life to what is known."""
    bundle = host.sticks.first
    known = read()
    known[host.system.suite] = {
        "stick_to_first_answer_seconds": round(host.times["installed"] + host.times["first answer"], 1),
        "bundle_bytes": bundle.num_bytes,
        "pythons": list(bundle.about.platform.pythons),
        "attempts": host.counts,
        "seconds": {name: round(seconds, 1) for name, seconds in host.times.items()},
    }
    place().write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
