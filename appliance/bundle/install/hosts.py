"""May this bundle go onto this host? What the installer itself needs, before anything is changed."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.bundle.install import release
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.refusals import BundleRefused, Exit


def check(about: Manifest, site: Site, staged: Path | None) -> None:
    """BundleRefused: 21 for another Python than the bundle's wheels are for, 22 where room is missing."""
    python = release.find_python()
    version = ".".join(map(str, release.version_of(python)[:2]))
    if version not in about.platform.pythons:
        raise BundleRefused(
            Exit.WRONG_PLATFORM,
            f"the bundle is for Python {', '.join(about.platform.pythons)}; this host has {version}",
            hint="install one of these from the operating system's own medium",
        )
    if staged is None:
        return
    free = shutil.disk_usage(site.state).free
    # The staged copy is there already, and its models are moved, not copied.
    needed = max(0, about.needs.disk_peak_bytes - about.needs.disk_bytes)
    if free < needed:
        raise BundleRefused(
            Exit.DISK,
            f"{free >> 20} MiB are free below {site.state}, {needed >> 20} MiB are needed",
            hint="remove what is left over: appliance bundle list",
        )
