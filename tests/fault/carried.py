"""A program that carries a bundle in, for tests that kill it, fill its disk, and scratch its discs.

`python -m tests.fault.carried SCENARIO ROOT VOLUME…` prints one line of JSON for each attempt.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path

from appliance.bundle import copying, store
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused


def attempt(site: Site, paths: list[Path], progress: Callable[[int, int], None] | None = None) -> None:
    """Copy, and take into the store where all is here; say how it ended."""
    try:
        taken = copying.take(paths, site, progress=progress)
        if not taken.missing and taken.manifest is not None:
            store.adopt(site, taken.staging, taken.manifest)
    except BundleRefused as error:
        told: dict[str, object] = {"exit": int(error.exit), "message": error.message, "hint": error.hint}
    else:
        told = {"exit": 0, "copied": taken.num_copied, "missing": [str(each) for each in taken.missing]}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def fill(path: Path) -> None:
    """Write until the disk is really full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def main() -> None:
    """Run one scenario."""
    scenario, root, *volumes = sys.argv[1:]
    site, paths = Site(Path(root)), [Path(each) for each in volumes]
    if scenario == "filled midway":
        filler = site.staging / ".filler"

        def other_writer(done: int, _total: int) -> None:
            if done and not filler.exists():
                fill(filler)

        attempt(site, paths, other_writer)
        filler.unlink()
    attempt(site, paths)


if __name__ == "__main__":
    main()
