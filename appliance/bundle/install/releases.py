"""Which releases a host has: the one that serves, the one that is kept, and what else lies there."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from appliance import durable
from appliance.bundle import layout, manifest
from appliance.bundle.install import journal, release
from appliance.bundle.install.journal import Plan
from appliance.bundle.install.steps import State
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.errors import SetupError


@dataclass(frozen=True, slots=True)
class Installed:
    """One release's folder."""

    folder: Path
    about: Manifest
    is_complete: bool
    is_runnable: bool

    @property
    def name(self) -> str:
        return self.folder.name


def every(site: Site) -> list[Installed]:
    """Every release whose folder can be read, the newest first."""
    folders = site.releases.iterdir() if site.releases.is_dir() else ()
    found = [known for folder in folders if (known := read(folder)) is not None]
    return sorted(found, key=lambda each: each.about.serial, reverse=True)


def read(folder: Path) -> Installed | None:
    """A release; None where its folder was only begun."""
    try:
        about = manifest.parse((folder / layout.MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    return Installed(folder, about, release.is_complete(folder), release.is_runnable(folder))


def current(site: Site) -> Installed | None:
    """The release that `current` leads to. SetupError where it leads elsewhere."""
    if not site.current.is_symlink():
        return None
    folder = site.current.readlink()
    if folder.parent != site.releases:
        raise SetupError(f"{site.current} leads out of {site.releases}", code="install_current")
    return read(folder)


def previous(site: Site) -> Installed | None:
    """The release that the last committed run left behind, if it is still there: what `rollback` goes to."""
    plan = committed(site)
    here = current(site)
    if plan is None or not plan.previous or here is None or here.name != plan.folder:
        return None
    return read(site.releases / plan.previous)


def committed(site: Site) -> Plan | None:
    """What was committed last."""
    lines = journal.read(site.journal)
    return next((each.plan for each in reversed(lines) if each.state is State.COMMITTED), None)


def link(site: Site, name: str) -> None:
    """Let `current` lead to a release, by one rename, durably. An empty name: to none."""
    if not name:
        site.current.unlink(missing_ok=True)
    else:
        fresh = site.current.with_name(".current.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(site.releases / name)
        fresh.replace(site.current)
    durable.fsync_dir(site.current.parent)


def drop(site: Site, keep: Collection[str]) -> list[str]:
    """Remove every other release's folder; their names. `.complete` goes first: half a folder is none."""
    removed = []
    if site.releases.is_dir():
        for folder in sorted(site.releases.iterdir()):
            if folder.name not in keep and folder.is_dir():
                (folder / release.COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(folder)
                removed.append(folder.name)
    return removed
