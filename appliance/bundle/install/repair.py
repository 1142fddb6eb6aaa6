"""A release's environment, built again off line: the operating system replaced the Python that it stood on.

Needs nothing but Python's own library, and runs under whatever Python the system has now. The wheels lie in
the store, under digests that the release's own verified list names.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.bundle import layout
from appliance.bundle.install import release
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import SetupError


def repair(folder: Path, store: Path, tell: release.Tell = lambda _word: None) -> str:
    """Build a release's environment anew; the version of Python that it has now, as 3.13.

    BundleRefused: 14 where a wheel is not in the store, 16 where one is altered.
    """
    if not (folder / layout.SUMS).is_file():
        raise BundleRefused(Exit.MISSING, f"{folder} holds no release")
    python = release.find_python()
    release.build_environment(folder, python, lambda _path, digest: layout.stored(store, digest), tell)
    return release.python_of(folder / "venv")


def main(arguments: list[str]) -> None:
    """The program of a release calls this where its own Python is gone: FOLDER. Root only."""
    folder = Path(arguments[0])
    root = folder.parents[3]  # …/opt/appliance/releases/<release>
    try:
        version = repair(folder, layout.Site(root).store)
    except (BundleRefused, SetupError) as error:
        print(f"appliance: error: {error.message}", file=sys.stderr)  # noqa: T201 - a person reads this
        if error.hint:
            print(f"appliance: hint: {error.hint}", file=sys.stderr)  # noqa: T201
        sys.exit(int(error.exit) if isinstance(error, BundleRefused) else int(Exit.PREFLIGHT))
    print(f"appliance: the environment was built again, for Python {version}", file=sys.stderr)  # noqa: T201
