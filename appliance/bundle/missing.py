"""What an import still waits for, by volume."""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.bundle import layout, manifest
from appliance.bundle.manifest import Manifest
from appliance.bundle.notes import Notes
from appliance.bundle.refusals import some
from appliance.bundle.volumes import PIECE, is_own


@dataclass(frozen=True, slots=True)
class Missing:
    """One volume that was not given, or not whole. `paths`: what of it; empty where that is not known yet."""

    volume: int
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.paths:
            return f"volume {self.volume}"
        return f"volume {self.volume}: {some(self.paths, 1)}"


@dataclass(frozen=True, slots=True)
class Lists:
    """A bundle's own: `SHA256SUMS` by path, and its manifest."""

    sums: Mapping[str, str]
    manifest: Manifest


def find_missing(
    staging: Path, known: Notes, lists: Lists | None, covered: Collection[str]
) -> tuple[Missing, ...]:
    """By volume, in order. `covered`: paths in whose place something else is staged."""
    found: dict[int, list[str]] = {}
    volume_of = {path: number for number, path in _listed(known)}
    if lists is None:
        unseen = set(range(1, known.volume.of + 1)) - known.lists.keys()
        wanted = {path for path in volume_of if path.startswith(layout.BLOBS)}
        wanted |= {layout.SUMS, layout.MANIFEST} & volume_of.keys()
    else:
        unseen = set()
        wanted = set(lists.sums) | {path for path in volume_of if layout.UNLISTED.fullmatch(path)}
    sizes = {path: size for path, (_, size) in manifest.digests(lists.manifest).items()} if lists else {}
    for path in sorted(wanted - set(covered)):
        if not is_staged(staging / path, sizes.get(path)):
            found.setdefault(volume_of.get(path, 1), []).append(path)
    every = {number: Missing(number) for number in unseen}
    every |= {number: Missing(number, tuple(paths)) for number, paths in found.items()}
    return tuple(every[number] for number in sorted(every))


def is_staged(path: Path, size: int | None) -> bool:
    """Whether a plain file lies there, of this size where it is known. Its name says that it was checked."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and size in {None, status.st_size}


def _listed(known: Notes) -> Iterator[tuple[int, str]]:
    for number in sorted(known.lists, reverse=True):  # the lowest number is named last, and stays
        for path in known.lists[number]:
            if not is_own(path):
                piece = PIECE.fullmatch(path)
                yield number, piece[1] if piece else path
