"""What an import knows between two media: which bundle it copies, and what each volume lists.

staging/.volumes/<serial>/volume.json, VOLUME-NN.SHA256SUMS
    staging/.volumes/<serial>/held         digests that the store holds, hashed during this import
    staging/.volumes/<serial>/complete     nothing is missing
staging/.volumes/lock                  held while somebody copies
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from appliance import durable
from appliance.bundle import room, volumes
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.volumes import Volume

_FOLDER: Final = ".volumes"
_COMPLETE: Final = "complete"
_HELD: Final = "held"


@dataclass(frozen=True, slots=True)
class Notes:
    """The notes about one serial. `volume.number` means nothing here."""

    folder: Path
    volume: Volume
    lists: Mapping[int, Mapping[str, str]]
    held: frozenset[str] = frozenset()

    @property
    def copying(self) -> Path:
        """Where a file lies until its digest is known to be right; on the same disk as the staged ones."""
        return self.folder / "copying"

    def keep(self, lists: Mapping[int, Mapping[str, str]], *, prevail: bool) -> Notes:
        """Remember what volumes list; those of a volume with the bundle's own lists prevail.

        BundleRefused (11) where a volume without them says something else than is known.
        """
        changed = {number: each for number, each in lists.items() if self.lists.get(number) != each}
        for number in changed:
            if number in self.lists and not prevail:
                raise BundleRefused(
                    Exit.BAD_METADATA,
                    f"volume {number} does not list what it listed before: it was made in another run",
                    hint=f"appliance bundle import --discard {self.volume.serial} starts anew",
                )
        with room.writing(self.folder):
            for number, each in changed.items():
                durable.write_file(self.folder / volumes.list_name(number), volumes.dump_list(each))
        return replace(self, lists={**self.lists, **lists})

    def keep_held(self, held: Iterable[str]) -> Notes:
        """Remember what was hashed in the store, so that the next disc need not wait for it again."""
        every = self.held | set(held)
        if every != self.held:
            with room.writing(self.folder):
                durable.write_file(
                    self.folder / _HELD, "".join(f"{each}\n" for each in sorted(every)).encode()
                )
        return replace(self, held=every)

    def set_complete(self, *, complete: bool) -> None:
        """So that another bundle's volume is not refused because this one lies here."""
        with room.writing(self.folder):
            if complete:
                durable.write_file(self.folder / _COMPLETE, b"")
            else:
                (self.folder / _COMPLETE).unlink(missing_ok=True)


@contextmanager
def locked(site: Site) -> Iterator[None]:
    """One import at a time. BundleRefused (30) where another is under way."""
    folder = site.staging / _FOLDER
    with room.writing(folder):
        durable.make_public_dir(folder)
    busy = BundleRefused(Exit.BUSY, "another import is under way on this host")
    with ExitStack() as held:
        with room.writing(folder):
            held.enter_context(durable.locked(folder / "lock", busy))
        yield


def begin(site: Site, volume: Volume) -> Notes:
    """The notes about this volume's bundle, begun where there are none.

    BundleRefused (11) where the same serial is being imported from another build.
    """
    folder = site.staging / _FOLDER / str(volume.serial)
    found = read(site, volume.serial)
    if found is None:
        with room.writing(folder):
            durable.make_public_dir(folder)
            durable.write_file(folder / volumes.NAME, volumes.dump(volume))
        return Notes(folder, volume, {})
    if not found.volume.is_of(volume):
        raise BundleRefused(
            Exit.BAD_METADATA,
            f"serial {volume.serial} is being imported from another set of volumes",
            hint=f"appliance bundle import --discard {volume.serial} starts anew",
        )
    return found


def read(site: Site, serial: int) -> Notes | None:
    """The notes about a serial; None where nothing of it was imported."""
    folder = site.staging / _FOLDER / str(serial)
    path = folder / volumes.NAME
    if not path.exists():
        return None
    lists = {
        int(match[1]): volumes.parse_list(each.read_bytes(), each.name)
        for each in sorted(folder.iterdir())
        if (match := volumes.LIST.fullmatch(each.name))
    }
    kept = folder / _HELD
    held = frozenset(kept.read_text(encoding="ascii").split()) if kept.exists() else frozenset()
    return Notes(folder, volumes.parse(path.read_bytes()), lists, held)


def unfinished(site: Site) -> list[int]:
    """Serials whose import was begun and is not complete."""
    folder = site.staging / _FOLDER
    if not folder.is_dir():
        return []
    return sorted(
        int(each.name)
        for each in folder.iterdir()
        if each.name.isdigit() and (each / volumes.NAME).exists() and not (each / _COMPLETE).exists()
    )


def discard(site: Site, serial: int) -> None:
    """Remove what was copied of a serial, and the notes about it. The store keeps what it holds."""
    for folder in (site.staging / str(serial), site.staging / _FOLDER / str(serial)):
        if folder.exists():
            shutil.rmtree(folder)
            durable.fsync_dir(folder.parent)
