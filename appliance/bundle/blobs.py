"""Models by content: one reading gives the digest of the whole, of each part, and the parts themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.bundle import layout
from appliance.bundle.meter import Told

_CHUNK_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """A file as it lies in a bundle. `parts` are digests in order; empty where it is whole."""

    sha256: str
    size: int
    part_size: int
    parts: tuple[str, ...]


def cut(
    source: Path,
    bundle: Path,
    *,
    part_bytes: int = layout.PART_BYTES,
    told: Told | None = None,
) -> Cut:
    """Copy a file into a bundle's folder, in parts where it is larger than one. `told` hears of bytes."""
    scratch = bundle / layout.BLOBS / "incoming"
    scratch.mkdir(parents=True)
    whole = hashlib.sha256()
    parts: list[str] = []
    size = 0
    with source.open("rb") as file:
        while True:
            piece = hashlib.sha256()
            room = part_bytes
            with (scratch / f"{len(parts):04d}").open("wb") as target:
                while room and (chunk := file.read(min(_CHUNK_BYTES, room))):
                    target.write(chunk)
                    piece.update(chunk)
                    whole.update(chunk)
                    room -= len(chunk)
                    if told is not None:
                        told(len(chunk))
            size += part_bytes - room
            parts.append(piece.hexdigest())
            if room or size == source.stat().st_size:
                break
    digest = whole.hexdigest()
    is_whole = len(parts) == 1
    for number in range(len(parts)):
        place = bundle / layout.blob_path(digest, None if is_whole else number)
        place.parent.mkdir(exist_ok=True)
        (scratch / f"{number:04d}").replace(place)
    scratch.rmdir()
    return Cut(digest, size, part_bytes, () if is_whole else tuple(parts))
