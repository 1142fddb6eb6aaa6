"""Can the appliance run on this host? Asked by the installer before it changes anything, and by `doctor`.

facts.py    what was seen on the host, as one value
gather.py   the only file that looks
machine.py, room.py, surroundings.py   facts in, checks out: pure
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.preflight import gather, machine, room, surroundings
from appliance.bundle.preflight.facts import Check, Facts, Level, Wanted
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.clock import Clock, SystemClock

__all__ = ["Check", "Facts", "Level", "Wanted", "decide", "require", "run"]


def run(
    manifest: Manifest | None,
    site: Site,
    *,
    python: Path | None = None,
    home: Path | None = None,
    ports: Sequence[int] = (8080, 8090),
    staged_bytes: int = 0,
    clock_floor: str = "",
    needs_gpu: bool = False,
    clock: Clock | None = None,
) -> list[Check]:
    """Every check. `manifest` None: of the host as it is, for nothing in particular.

    `python` is the interpreter that the release shall have (default: this one), `home` whose lock is asked
    for another instance (default: the site's), `staged_bytes` what already lies in staging, `clock_floor` a
    moment that is known to have been (as in a manifest).
    """
    wanted = Wanted(
        manifest=manifest,
        ports=tuple(ports),
        staged_bytes=staged_bytes,
        floor=clock_floor,
        needs_gpu=needs_gpu,
    )
    facts = gather.look(site, python=python, home=home or site.home, clock=clock or SystemClock())
    return decide(facts, wanted)


def decide(facts: Facts, wanted: Wanted) -> list[Check]:
    """Checks from facts alone."""
    return [
        *machine.checks(facts, wanted),
        *room.checks(facts, wanted),
        *surroundings.checks(facts, wanted),
    ]


def require(checks: Sequence[Check]) -> None:
    """BundleRefused with every red check: 21 where this is the wrong machine, 20 where it can be mended."""
    red = [each for each in checks if each.level is Level.FAIL]
    if not red:
        return
    is_other_machine = any(each.is_platform for each in red)
    raise BundleRefused(
        Exit.WRONG_PLATFORM if is_other_machine else Exit.PREFLIGHT,
        "this host is not ready: " + "; ".join(f"{each.name}: {each.found}" for each in red),
        hint=" · ".join(dict.fromkeys(each.fix for each in red if each.fix)),
    )
