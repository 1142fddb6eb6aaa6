"""A bundle's folder: which files lie in it, what each is for, and the two lists that name them all.

`manifest.json` names what the release consists of. `SHA256SUMS` names that, the manifest itself, and what the
signers add before anybody signs: their public keys and the roots of trust. `seal` writes the latter from what
lies in the folder, and is run again after each addition.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from appliance.bundle import hashing, layout, manifest, sums
from appliance.bundle.meter import Meter, Progress
from appliance.bundle.refusals import BundleRefused, Exit

PLAIN: Final = 0o644
PROGRAM: Final = 0o755

_ROLES: Final[dict[str, manifest.Role]] = {
    layout.WHEELS: "wheel",
    layout.APP: "app",
    "lock": "lock",
    "licences": "licence",
    layout.KEYS: "key",
    "os": "os",
    layout.SBOM: "sbom",
    "verify.sh": "tool",
    "install.sh": "tool",
    "ed25519_verify.py": "tool",
}


def paths(bundle: Path) -> list[str]:
    """Every file, relative and sorted. BundleRefused (11) for links, devices and names no bundle has."""
    return sorted(_walk(bundle, ""))


def describe(bundle: Path, path: str) -> manifest.File:
    """The manifest's words about one file of the folder."""
    role = _ROLES.get(path.partition("/")[0], "document")
    place = bundle / path
    return manifest.File(
        path=path,
        size=place.stat().st_size,
        sha256=hashing.digest(place)[0],
        role=role,
        tags=tuple(sorted(map(str, tags_of(path)))) if role == "wheel" else (),
    )


def describe_all(bundle: Path) -> tuple[manifest.File, ...]:
    """All that a manifest lists but blobs: neither itself, nor what signers add."""
    return tuple(
        describe(bundle, path)
        for path in paths(bundle)
        if path != layout.MANIFEST
        and path.split("/", 1)[0] not in {layout.KEYS, layout.METADATA, "blobs"}
        and not layout.UNLISTED.fullmatch(path)
    )


def tags_of(path: str) -> list[str]:
    """A wheel's tags, as PEP 425 writes them. BundleRefused (11) where its name is no wheel's."""
    try:
        return [str(each) for each in parse_wheel_filename(Path(path).name)[3]]
    except InvalidWheelFilename as error:
        raise BundleRefused(Exit.BAD_METADATA, f"not the name of a wheel: {path}") from error


def write_manifest(bundle: Path, found: manifest.Manifest) -> None:
    """`manifest.json`, in its canonical form, once it was read as any host would read it."""
    data = manifest.dump(found)
    manifest.parse(data)
    (bundle / layout.MANIFEST).write_bytes(data)


def seal(bundle: Path, progress: Progress | None = None) -> dict[str, str]:
    """(Re)write `SHA256SUMS` from all that lies in the folder but what signatures come with.

    Returns the digests by path. The same files give the same list, and its time is the manifest's.
    """
    listed = [path for path in paths(bundle) if not layout.UNLISTED.fullmatch(path)]
    meter = Meter(progress, sum((bundle / path).stat().st_size for path in listed))
    found = {path: hashing.digest(bundle / path, meter.told)[0] for path in listed}
    place = bundle / layout.SUMS
    place.write_bytes(sums.dump(found))
    if (bundle / layout.MANIFEST).is_file():
        settle(place, int((bundle / layout.MANIFEST).stat().st_mtime))
    return found


def settle(path: Path, seconds: int) -> None:
    """A fixed mode and time: whose umask it was written under, and when, is not part of a release."""
    is_program = path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)
    path.chmod(PROGRAM if is_program else PLAIN)
    os.utime(path, (seconds, seconds))


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        path = f"{prefix}{entry.name}"
        if not layout.is_path(path):
            raise BundleRefused(Exit.BAD_METADATA, f"a bundle can not hold this name: {path[:160]!r}")
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{path}/")
        elif entry.is_file(follow_symlinks=False):
            yield path
        else:
            raise BundleRefused(Exit.BAD_METADATA, f"neither a file nor a folder: {path}")
