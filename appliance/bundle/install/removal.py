"""What comes after an installation: its environment mended, or all of it taken off the host."""

from __future__ import annotations

import shutil
from typing import Any, TypeVar

import msgspec

from appliance.bundle import layout
from appliance.bundle.install import homes, owed, programs, release, releases, repair
from appliance.bundle.install.owed import Event
from appliance.bundle.install.programs import Program
from appliance.bundle.install.releases import Installed
from appliance.bundle.install.service import Service
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError

_T = TypeVar("_T")


def mend(site: Site, service: Service, *, force: bool, who: str) -> dict[str, Any]:
    """Build again what the release that serves, and the one that is kept, stand on. BundleRefused: 14, 16,
    20.
    """
    here = releases.current(site)
    if here is None:
        raise BundleRefused(Exit.MISSING, "no release is installed here")
    found = []
    kept = releases.previous(site)
    for each in [here, *([kept] if kept is not None else [])]:
        if each.is_runnable and not force:
            found.append({"release": each.name, "python": "", "said": "its environment is whole"})
            continue
        was_active = each is here and service.is_active()
        if was_active:
            service.stop()
        version = repair.repair(each.folder, site.store)
        owed.put(site, Event.REPAIRED, _public(each) | {"python": version}, {"who": who})
        found.append({"release": each.name, "python": version, "said": f"built again, for Python {version}"})
        if each is here and not service.is_starting():
            service.start()
    waiting = owed.settle(site, Program(site.current, homes.account_of(site)))
    return {"releases": found, "entries_waiting": waiting}


def uninstall(site: Site, service: Service, *, purge: bool, who: str) -> dict[str, Any]:
    """Stop, disable, remove units, releases and the account; with `purge` the data as well. Can be done
    again.
    """
    account = homes.account_of(site)
    here = releases.current(site)
    if here is not None:
        owed.put(site, Event.UNINSTALLED, _public(here), {"who": who})
        owed.settle(site, Program(site.current, account))
    service.remove()
    removed = [f"the service {homes.NAME}"]
    releases_folder = site.releases.parent
    site.current.unlink(missing_ok=True)
    removed += [f"release {name}" for name in releases.drop(site, ())]
    for place in (releases_folder, site.staging, site.run, site.state / "smoke", site.state / "public"):
        if place.exists():
            shutil.rmtree(place)
            removed.append(str(place))
    if purge:
        if site.state.exists():
            shutil.rmtree(site.state)
            removed.append(str(site.state))
        if account is not None:
            programs.run(["/usr/sbin/userdel", account.name], None, seconds=60, given="")
            removed.append(f"the account {account.name}")
    remains = [str(each) for each in sorted(site.state.iterdir())] if site.state.exists() else []
    if remains and account is not None:
        remains.append(f"the account {account.name}, which owns {site.home}")
    return {"removed": removed, "remains": remains}


def entry(text: str, command: type[_T]) -> _T:
    """The command that puts an owed entry on the record. RequestError where it is none."""
    try:
        known = msgspec.json.decode(text.encode(), type=owed.Owed)
        return msgspec.convert(msgspec.to_builtins(known), command)
    except msgspec.MsgspecError as error:
        raise RequestError("this is no entry about a bundle", code="invalid_entry") from error


def _public(of: Installed) -> dict[str, str | int]:
    return {
        "serial": of.about.serial,
        "release": of.about.release,
        "sums_sha256": release.sums_digest(of.folder) if (of.folder / layout.SUMS).exists() else "",
    }
