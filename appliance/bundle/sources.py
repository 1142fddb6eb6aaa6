"""What an operator points at: volumes of a bundle, or a bundle in one folder, on media that are not believed.

A `Source` is one such folder with the list of what it holds. Nothing else lies there, and nothing but plain
files of plain names: whether their bytes are right is found out while they are copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from appliance.bundle import layout, manifest, reading, sums, volumes
from appliance.bundle.refusals import BundleRefused, Exit, some
from appliance.bundle.volumes import Volume

_MAX_UNLISTED_BYTES: Final = {"": layout.MAX_METADATA_BYTES, layout.SUMS: layout.MAX_SUMS_BYTES}


@dataclass(frozen=True, slots=True)
class Source:
    """A folder on a medium. `digests`: what its lists say, by path; "" for what only signers list.

    `sizes`: what is there. `lists`: media's own lists that lie here, by their volume's number.
    """

    root: Path
    volume: Volume
    digests: Mapping[str, str]
    sizes: Mapping[str, int]
    lists: Mapping[int, Mapping[str, str]]

    @property
    def has_lists(self) -> bool:
        """Whether the bundle's own list and manifest are here."""
        return layout.SUMS in self.sizes and layout.MANIFEST in self.sizes


def find(paths: Sequence[Path]) -> list[Source]:
    """Sources at these folders, or one level below them; those that hold the bundle's lists come first.

    BundleRefused: 11 for what is malformed or of several bundles, 14 where there is none, 16 where a file
    that nobody listed lies there, 22 where a medium can not be read.
    """
    found = [_read(folder) for path in paths for folder in _folders(path)]
    first = found[0].volume
    for each in found[1:]:
        if not each.volume.is_of(first):
            raise BundleRefused(
                Exit.BAD_METADATA,
                f"volumes of two bundles: {_named(first)} at {found[0].root}, "
                f"{_named(each.volume)} at {each.root}",
                hint="give the volumes of one bundle, made in one run",
            )
    return sorted(found, key=lambda each: (not each.has_lists, each.volume.number))


def read_lists(source: Source) -> tuple[dict[str, str], manifest.Manifest]:
    """The bundle's own list and manifest from a medium, agreeing with each other and with the volume.

    BundleRefused: 11 where they are malformed, 16 where they are not those that the volume names.
    """
    listed = _small(source.root, layout.SUMS, layout.MAX_SUMS_BYTES)
    if reading.digest_of(listed) != source.volume.sums_sha256:
        raise BundleRefused(Exit.WRONG_DIGEST, f"{layout.SUMS} is not the one that {volumes.NAME} names")
    digests = sums.parse(listed)
    data = _small(source.root, layout.MANIFEST, layout.MAX_MANIFEST_BYTES)
    if digests.get(layout.MANIFEST) != reading.digest_of(data):
        raise BundleRefused(Exit.WRONG_DIGEST, f"{layout.MANIFEST} is not the one that {layout.SUMS} lists")
    found = manifest.parse(data)
    if (found.serial, found.release) != (source.volume.serial, source.volume.release):
        raise BundleRefused(Exit.BAD_METADATA, "the manifest is of another bundle than the volume")
    for path, (digest, _size) in manifest.digests(found).items():
        if digests.get(path, digest) != digest:
            raise BundleRefused(Exit.BAD_METADATA, f"the manifest and {layout.SUMS} differ about {path}")
    return digests, found


def unlisted_limit(path: str) -> int:
    """How many bytes a file may have that only signers list: signatures and metadata."""
    return _MAX_UNLISTED_BYTES.get(path, layout.MAX_METADATA_BYTES)


def _named(volume: Volume) -> str:
    return f"{volume.release} (serial {volume.serial}, {volume.of} volumes, {volume.sums_sha256[:8]})"


def _folders(path: Path) -> Iterator[Path]:
    """A volume or bundle itself; or those directly in a folder, such as a stick's."""
    with reading.readable(path):
        if _is_source(path):
            inner = [path]
        else:
            inner = sorted(each for each in path.iterdir() if each.is_dir() and _is_source(each))
    if not inner:
        raise BundleRefused(
            Exit.MISSING,
            f"{path} holds no bundle and no volume of one",
            hint=f"give the folder with {layout.SUMS} or {volumes.NAME}, or the medium that holds it",
        )
    yield from inner


def _is_source(path: Path) -> bool:
    names = {each.name for each in path.iterdir()}
    return volumes.NAME in names or {layout.SUMS, layout.MANIFEST} <= names


def _read(root: Path) -> Source:
    with reading.readable(root):
        sizes = reading.list_files(root)
    if volumes.NAME in sizes:
        return _volume(root, sizes)
    listed = _small(root, layout.SUMS, layout.MAX_SUMS_BYTES)
    digests = sums.parse(listed)
    found = manifest.parse(_small(root, layout.MANIFEST, layout.MAX_MANIFEST_BYTES))
    volume = Volume(volumes.FORMAT, found.release, found.serial, reading.digest_of(listed), number=1, of=1)
    unlisted = {path: "" for path in sizes if layout.UNLISTED.fullmatch(path)}
    return _matched(Source(root, volume, digests | unlisted, sizes, {}))


def _volume(root: Path, sizes: Mapping[str, int]) -> Source:
    volume = volumes.parse(_small(root, volumes.NAME, volumes.MAX_BYTES))
    lists = {
        int(match[1]): volumes.parse_list(_small(root, path, layout.MAX_SUMS_BYTES), path)
        for path in sizes
        if (match := volumes.LIST.fullmatch(path))
    }
    if volume.number not in lists:
        raise BundleRefused(
            Exit.MISSING, f"{root} has no {volume.list}: writing this volume was never finished"
        )
    if max(lists) > volume.of:
        raise BundleRefused(Exit.BAD_METADATA, f"{root} lists more volumes than the {volume.of} it speaks of")
    digests: dict[str, str] = {}
    for each in lists.values():  # several, where volumes were copied into one folder
        for path, digest in each.items():
            if not volumes.is_own(path) and digests.setdefault(path, digest) != digest:
                raise BundleRefused(Exit.BAD_METADATA, f"{root}: two lists differ about {path}")
    return _matched(Source(root, volume, digests, sizes, lists))


def _matched(source: Source) -> Source:
    """Nothing lies there that no list names. What is listed and not there yet is asked for later."""
    present = {path for path in source.sizes if not volumes.is_own(path) or not source.lists}
    if extra := sorted(present - source.digests.keys()):
        raise BundleRefused(
            Exit.WRONG_DIGEST,
            f"{source.root}: a file that nobody listed: {some(extra, 1)}",
            hint="a medium that somebody added to is not taken: remove the file, or write the medium anew",
        )
    return replace(source, sizes={path: source.sizes[path] for path in present})


def _small(root: Path, path: str, limit: int) -> bytes:
    with reading.readable(root / path):
        return reading.read_small(root, path, limit)
