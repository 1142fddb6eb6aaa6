"""Entries that the audit log is owed: written down at once, told to the log as soon as one can be written.

One file each, removed once the entry is on the record: a crash between the two tells it twice, never not at
all.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from appliance import durable
from appliance.bundle.install.programs import Program, ProgramFailed
from appliance.bundle.layout import Site
from appliance.log import get_logger

_MAX_OWED: Final = 1000
_SECONDS: Final = 300.0

log = get_logger(__name__)


class Event(StrEnum):
    """Kinds of entries that an installer causes (audit/kinds.py)."""

    VERIFIED = "bundle:verified"
    INSTALLED = "bundle:installed"
    ROLLED_BACK = "bundle:rolled_back"
    REFUSED = "bundle:refused"
    REPAIRED = "bundle:repaired"
    UNINSTALLED = "bundle:uninstalled"


class Owed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of kind `bundle:*`."""

    event: Event
    public: dict[str, str | int]
    content: dict[str, str]


def put(site: Site, event: Event, public: Mapping[str, str | int], content: Mapping[str, str]) -> None:
    """Durable when it returns."""
    folder = _folder(site)
    durable.make_private_dir(folder)
    known = [int(each.stem) for each in folder.glob("*.json")]
    if len(known) >= _MAX_OWED:
        return  # a host whose log is closed for a thousand installations has told its operator
    path = folder / f"{max(known, default=0) + 1:06d}.json"
    durable.write_file(path, msgspec.json.encode(Owed(event, dict(public), dict(content))))


def settle(site: Site, program: Program) -> int:
    """Tell the log what it is owed, in order; how many entries wait on because it is closed."""
    waiting = sorted(_folder(site).glob("*.json"))
    for number, path in enumerate(waiting):
        try:
            program.run("bundle", "tell", "--home", str(site.home), seconds=_SECONDS, given=path.read_text())
        except ProgramFailed as error:
            log.warning("bundle_entry_waits", error=error.message[:200])
            return len(waiting) - number
        path.unlink()
        durable.fsync_dir(path.parent)
    return 0


def _folder(site: Site) -> Path:
    return site.state / "owed"
