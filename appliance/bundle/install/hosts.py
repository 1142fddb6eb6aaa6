"""May this bundle go onto this host? Everything that preflight looks at, before anything is changed."""

from __future__ import annotations

from pathlib import Path

from appliance.bundle import preflight
from appliance.bundle.install import release
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest


def check(about: Manifest, site: Site, staged: Path | None) -> None:
    """BundleRefused: 21 where this is another machine than the bundle is for, 20 where it can be mended."""
    serves = site.current.is_symlink()
    found = preflight.run(
        about,
        site,
        python=release.find_python(),
        # What serves now holds the ports and its home's lock: that is no other instance.
        home=site.state / "none" if serves else site.home,
        ports=() if serves or site.root != Path("/") else (8080, 8090),
        staged_bytes=_bytes(staged) if staged is not None else 0,
        clock_floor=about.built,
    )
    preflight.require(found)


def _bytes(folder: Path) -> int:
    return sum(each.lstat().st_size for each in folder.rglob("*") if each.is_file())
