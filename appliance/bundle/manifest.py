"""`manifest.json`: what a bundle is, what it needs, and every file of it. Pure.

Canonical form: UTF-8, sorted keys, no floats, one trailing line feed. A key that stands twice, an unknown
key, a hostile path or a list that contradicts itself is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from appliance.bundle import canonical, layout
from appliance.bundle.refusals import BundleRefused, Exit

FORMAT: Final = "appliance-bundle/1"
_MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Bytes = Annotated[int, Meta(ge=0, le=1 << 50)]
Serial = Annotated[int, Meta(ge=1, le=1 << 40)]
Release = Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+([a-z0-9.+-]{1,40})?\Z")]
Moment = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
Text = Annotated[str, Meta(max_length=500)]
Role = Literal["wheel", "app", "lock", "licence", "tool", "key", "document", "sbom", "os"]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Unknown keys are refused at every depth."""


class File(_Part, frozen=True):
    """A file of the bundle that is no blob. `tags`: a wheel's, as PEP 425 writes them."""

    path: str
    size: Bytes
    sha256: Sha256
    role: Role
    tags: tuple[Text, ...] = ()


class Model(_Part, frozen=True):
    """What a blob is, where it is a model. `licence_file` is a path of the bundle."""

    id: Text
    quant: Text
    arch: Text
    licence: Text
    licence_file: str
    source: Text
    ram_bytes: Bytes
    vram_bytes: Bytes = 0


class Blob(_Part, frozen=True):
    """Content by digest. `parts` are the digests of its pieces of `part_size`; empty where it is whole."""

    sha256: Sha256
    size: Bytes
    name: Text
    part_size: Bytes = layout.PART_BYTES
    parts: tuple[Sha256, ...] = ()
    model: Model | None = None

    @property
    def paths(self) -> list[str]:
        """Its files in the bundle, in order."""
        if not self.parts:
            return [layout.blob_path(self.sha256)]
        return [layout.blob_path(self.sha256, number) for number in range(len(self.parts))]


class UpgradeFrom(_Part, frozen=True):
    """Which installed serials may go to this one directly; others go by way of `via`."""

    min_serial: int = 0
    via: tuple[Serial, ...] = ()


class Database(_Part, frozen=True):
    """`reads_since`: the oldest schema whose release still reads this one's (expand, then contract)."""

    alembic_head: Text
    reads_since: Text


class Platform(_Part, frozen=True):
    """What a host must be. `glibc` is the C library's lowest version."""

    os: Text = "linux"
    arch: Text = "x86_64"
    glibc: Text = "2.34"
    pythons: tuple[Text, ...] = ("3.11", "3.12", "3.13", "3.14")


class Needs(_Part, frozen=True):
    """Room on the host: for good, and while it is installed."""

    disk_bytes: Bytes
    disk_peak_bytes: Bytes
    ram_bytes: Bytes


class Delta(_Part, frozen=True):
    """Files that are left out, because the host that this bundle is for holds them."""

    base_serials: tuple[Serial, ...]
    omitted: tuple[Sha256, ...]


class Manifest(_Part, frozen=True):
    """The whole of `manifest.json`. `serial` alone decides what is newer; `release` is for people."""

    format: Literal["appliance-bundle/1"]
    product: Literal["appliance"]
    release: Release
    serial: Serial
    built: Moment
    git_commit: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")]
    platform: Platform
    upgrade_from: UpgradeFrom
    db: Database
    needs: Needs
    kind: Literal["full", "delta"]
    files: tuple[File, ...]
    blobs: tuple[Blob, ...]
    delta: Delta | None = None


def parse(data: bytes) -> Manifest:
    """A manifest that keeps to the format. BundleRefused (11) says what does not."""
    found = canonical.decode(data, Manifest, name="the manifest", limit=layout.MAX_MANIFEST_BYTES)
    _check(found)
    return found


def dump(manifest: Manifest) -> bytes:
    """The canonical bytes."""
    return canonical.encode(manifest)


def digests(manifest: Manifest) -> dict[str, tuple[str, int]]:
    """(SHA-256, bytes) of every file that a full bundle of this manifest has, by path; not the manifest."""
    found = {each.path: (each.sha256, each.size) for each in manifest.files}
    for blob in manifest.blobs:
        for number, path in enumerate(blob.paths):
            digest = blob.parts[number] if blob.parts else blob.sha256
            size = min(blob.part_size, blob.size - number * blob.part_size) if blob.parts else blob.size
            found[path] = (digest, size)
    return found


def left_out(of: Manifest) -> dict[str, str]:
    """Paths that a delta's folder lacks, each with the digest of what the host holds in its place."""
    omitted = set(of.delta.omitted) if of.delta else set()
    found = {each.path: each.sha256 for each in of.files if each.role == "wheel" and each.sha256 in omitted}
    for blob in of.blobs:
        if blob.sha256 in omitted:
            found |= dict.fromkeys(blob.paths, blob.sha256)
    return found


def moment(microseconds: int) -> str:
    """UTC, to the second, as manifests write it; text sorts as time."""
    return datetime.fromtimestamp(microseconds // 1_000_000, tz=UTC).strftime(_MOMENT)


def microseconds(moment: str) -> int:
    """A manifest's moment, since the epoch."""
    return int(datetime.strptime(moment, _MOMENT).replace(tzinfo=UTC).timestamp()) * 1_000_000


def _check(manifest: Manifest) -> None:
    paths = [each.path for each in manifest.files]
    paths += [path for blob in manifest.blobs for path in blob.paths]
    hostile = [each for each in paths if not layout.is_path(each)]
    if hostile:
        raise _bad(f"the manifest names a path that no bundle has: {hostile[0][:80]!r}")
    if made := [each for each in paths if each == layout.MANIFEST or layout.UNLISTED.fullmatch(each)]:
        raise _bad(f"the manifest names {made[0]}, which is made after it")
    folded = [each.casefold() for each in paths]  # a FAT medium holds one of two that differ by case
    if len(set(folded)) != len(folded):
        raise _bad("the manifest names a path twice")
    names = set(folded)
    if any(str(above) in names for each in folded for above in PurePosixPath(each).parents):
        raise _bad("the manifest names a file and its folder as files")
    for blob in manifest.blobs:
        pieces = -(-blob.size // blob.part_size) if blob.part_size else 0
        if blob.part_size < 1 or (blob.parts and len(blob.parts) != pieces):
            raise _bad(f"the parts of {blob.sha256} do not make up its size")
        if blob.model is not None and blob.model.licence_file not in paths:
            raise _bad(f"the licence of {blob.model.id} is not in the bundle")
    if (manifest.kind == "delta") != (manifest.delta is not None):
        raise _bad("the manifest is of a full bundle and of a delta")


def _bad(message: str) -> BundleRefused:
    return BundleRefused(Exit.BAD_METADATA, message)
