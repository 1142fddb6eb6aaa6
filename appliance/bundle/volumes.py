"""What says which medium this is: `volume.json`, and the medium's own list of digests. Pure.

A volume is a folder `appliance-<release>-linux-x86_64.volNN` with a part of a bundle's files at their own
paths, and two files more:

    volume.json               which bundle, which volume of how many (`Volume`)
    VOLUME-NN.SHA256SUMS      this medium's files, as `sha256sum` writes them; not itself

The volume that holds the bundle's `SHA256SUMS` holds every other volume's list too, so that a host knows what
to ask for. Neither file is signed, and nothing is believed because it stands there: they tell a torn copy
from a whole one, and what is still missing. What decides is the verification of the copy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from appliance.bundle import canonical, sums
from appliance.bundle.manifest import Release, Serial, Sha256
from appliance.bundle.refusals import BundleRefused, Exit

FORMAT: Final = "appliance-volume/1"
NAME: Final = "volume.json"
LIST: Final = re.compile(r"VOLUME-([0-9]{2,4})\.SHA256SUMS")
FOLDER: Final = re.compile(r"appliance-.{1,80}\.vol[0-9]{2,4}")
PIECE: Final = re.compile(r"(wheels/.+\.whl)\.p[0-9]{4}")
MAX_BYTES: Final = 4096
MAX_VOLUMES: Final = 9999

Number = Annotated[int, Meta(ge=1, le=MAX_VOLUMES)]


class Volume(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One volume of a bundle. `sums_sha256`: of its `SHA256SUMS`, which is another for each build."""

    format: Literal["appliance-volume/1"]
    release: Release
    serial: Serial
    sums_sha256: Sha256
    number: Number
    of: Number

    @property
    def folder(self) -> str:
        return f"appliance-{self.release}-linux-x86_64.vol{self.number:02d}"

    @property
    def list(self) -> str:
        return list_name(self.number)

    def is_of(self, other: Volume) -> bool:
        """Whether both are of one build. How it was cut is compared by the volumes' lists."""
        return (self.serial, self.sums_sha256) == (other.serial, other.sums_sha256)


def list_name(number: int) -> str:
    """The name of a volume's own list."""
    return f"VOLUME-{number:02d}.SHA256SUMS"


def is_own(path: str) -> bool:
    """Whether a path of a medium tells of the medium, and is no file of the bundle."""
    return path == NAME or LIST.fullmatch(path) is not None


def parse(data: bytes) -> Volume:
    """A `volume.json` that keeps to its format. BundleRefused (11) says what does not."""
    found = canonical.decode(data, Volume, name=NAME, limit=MAX_BYTES)
    if found.number > found.of:
        raise _bad(f"{NAME} says volume {found.number} of {found.of}")
    return found


def dump(volume: Volume) -> bytes:
    """The canonical bytes."""
    return canonical.encode(volume)


def parse_list(data: bytes, name: str) -> dict[str, str]:
    """A medium's digests by path. Unlike `SHA256SUMS` it names signatures and metadata as well."""
    return sums.read(data, name)


def dump_list(digests: Mapping[str, str]) -> bytes:
    """The list's bytes, sorted by path."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode("ascii")


def _bad(message: str) -> BundleRefused:
    return BundleRefused(Exit.BAD_METADATA, message)
