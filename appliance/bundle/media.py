"""A bundle cut into volumes for sticks, discs and diodes.

    split(bundle, out, DVD)  ─►  out/appliance-2.4.0-linux-x86_64.vol01, .vol02, …

Volume 1 holds everything that can refuse a bundle: its lists, signatures and metadata, wheels, the program,
the installer. What room is left, and further volumes, hold models' parts. A volume's own list is written
last, so that a volume whose making was interrupted is known by its absence. Bundles are signed before.

For a diode, which answers nothing, the last volume repeats the lists and signatures, and wheels are cut in
pieces: scanners that open archives find none to rewrite. `copying.take` puts them together again.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from appliance import durable
from appliance.bundle import layout, manifest, reading, room, sums, volumes
from appliance.bundle.manifest import left_out
from appliance.bundle.meter import Meter, Progress
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.volumes import Volume
from appliance.errors import RequestError

PIECE_BYTES: Final = 16 * 1024 * 1024
_NOT_OURS: Final = {"lost+found", "System Volume Information"}


@dataclass(frozen=True, slots=True)
class Media:
    """A sort of medium. `payload_bytes`: what one takes; None where that has no bound, or is given.

    `file_bytes`: the largest file. `block_bytes`: what every file's size is rounded up to.
    `overhead_bytes`: a volume's folders and lists.
    """

    name: str
    payload_bytes: int | None
    file_bytes: int | None = None
    block_bytes: int = 2048
    overhead_bytes: int = 1024 * 1024
    is_diode: bool = False


# Capacities: DVD-R 4,707,319,808, DVD+R 4,700,372,992, DVD+R DL 8,547,991,552, BD-R 25,025,314,816, of which
# burning programs keep 268,435,456 for bad sectors, CD-R 703 MB. What is left out is the file system's.
PRESETS: Final[Mapping[str, Media]] = {
    each.name: each
    for each in (
        Media("fat32", None, file_bytes=(1 << 32) - 1, block_bytes=32 * 1024),
        Media("dvd", 4_450_000_000),
        Media("dvd-dl", 8_100_000_000),
        Media("bd", 24_500_000_000),
        Media("cd", 690_000_000),
        Media("none", None, block_bytes=4096),
        Media("diode", None, block_bytes=4096, is_diode=True),
    )
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """What becomes one file of a volume: `size` bytes of a bundle's file, from `begin`."""

    path: str
    source: str
    begin: int
    size: int

    @property
    def is_whole(self) -> bool:
        return self.path == self.source


def split(
    bundle: Path,
    out: Path,
    media: Media,
    *,
    payload_bytes: int | None = None,
    wipe: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the volumes; their folders, in order. `payload_bytes`: of one medium, where its sort has no size.

    Every byte of the bundle is hashed on the way and held against its `SHA256SUMS`. RequestError where the
    output folder is not fresh (`wipe` removes volumes of an earlier run, and nothing else) or a file fits no
    medium; BundleRefused: 11, 16 where the bundle is not what it lists, 22 where the disk gives out.
    """
    with reading.readable(bundle):
        sizes = reading.list_files(bundle)
        listed = reading.read_small(bundle, layout.SUMS, layout.MAX_SUMS_BYTES)
        digests = sums.parse(listed)
        of = manifest.parse(reading.read_small(bundle, layout.MANIFEST, layout.MAX_MANIFEST_BYTES))
    _check(sizes, digests.keys() - left_out(of).keys())
    media = replace(media, payload_bytes=payload_bytes or media.payload_bytes)
    planned = _plan(sizes, media)
    _make_fresh(out, wipe=wipe)
    first = Volume(
        volumes.FORMAT, of.release, of.serial, reading.digest_of(listed), number=1, of=len(planned)
    )
    meter = Meter(progress, sum(each.size for entries in planned for each in entries))
    written = [
        _write(bundle, out, numbered(first, number), entries, digests, meter)
        for number, entries in enumerate(planned, start=1)
    ]
    _finish(out, first, written, media)
    return [out / numbered(first, number).folder for number in range(1, first.of + 1)]


def room_of(medium: Path) -> int:
    """What a mounted medium takes, in bytes: for sticks of its kind."""
    return room.free_bytes(medium)


def numbered(volume: Volume, number: int) -> Volume:
    """Another volume of the same set."""
    return Volume(volume.format, volume.release, volume.serial, volume.sums_sha256, number, volume.of)


def _check(sizes: Mapping[str, int], listed: AbstractSet[str]) -> None:
    missing = sorted(listed - sizes.keys())
    extra = sorted(path for path in sizes.keys() - listed if not layout.UNLISTED.fullmatch(path))
    if missing or extra:
        what = f"{missing[0]} is missing" if missing else f"nobody listed {extra[0]}"
        raise RequestError(f"this is no whole bundle: {what}", code="bundle_incomplete")
    if bad := next((path for path in sizes if any(part.endswith(".") for part in path.split("/"))), None):
        raise RequestError(f"a FAT medium can not hold this name: {bad}", code="medium_name")


def _plan(sizes: Mapping[str, int], media: Media) -> list[list[_Entry]]:
    """Entries by volume: what can refuse, then models' parts. RequestError where a file fits nowhere."""
    blobs = [path for path in sorted(sizes) if path.startswith(layout.BLOBS + "/")]
    core = [
        path for path in sorted(sizes, key=lambda each: (not _is_list(each), each)) if path not in set(blobs)
    ]
    lists = [_Entry(path, path, 0, sizes[path]) for path in core if _is_list(path)]
    planned = [[each for path in core for each in _entries(path, sizes[path], media)]]
    used = [media.overhead_bytes + _cost(planned[0], media)]
    if media.payload_bytes is not None and used[0] > media.payload_bytes:
        raise RequestError(
            f"volume 1 holds all that is not a model: {room.in_words(used[0])}, and one medium takes "
            f"{room.in_words(media.payload_bytes)}",
            code="medium_too_small",
            hint="take a larger medium",
        )
    for path in blobs:
        entry = _Entry(path, path, 0, sizes[path])
        cost = _cost([entry], media)
        is_full = media.payload_bytes is not None and used[-1] + cost > media.payload_bytes
        # Through a diode what can refuse goes alone: it is looked at there before models are sent.
        if is_full or (media.is_diode and len(planned) == 1):
            planned.append([])
            used.append(media.overhead_bytes)
        planned[-1].append(entry)
        used[-1] += cost
    if media.is_diode:
        planned.append(lists)
        used.append(media.overhead_bytes + _cost(lists, media))
    _refuse_too_large(planned, used, media)
    return planned


def _refuse_too_large(planned: Sequence[Sequence[_Entry]], used: Sequence[int], media: Media) -> None:
    limit = min(each for each in (media.file_bytes, media.payload_bytes, 1 << 62) if each is not None)
    for entries in planned:
        for each in entries:
            if each.size > limit:
                raise RequestError(
                    f"{each.path} has {room.in_words(each.size)}: no file of a {media.name} medium may",
                    code="medium_too_small",
                )
    if media.payload_bytes is not None and max(used) > media.payload_bytes:
        raise RequestError("a part of a model fits on no such medium", code="medium_too_small")
    if len(planned) > volumes.MAX_VOLUMES:
        raise RequestError(f"{len(planned)} volumes are too many", code="medium_too_small")


def _is_list(path: str) -> bool:
    """What tells whether the rest may be believed; a diode sends it first and last."""
    return path == layout.MANIFEST or path.startswith((f"{layout.METADATA}/", layout.SUMS))


def _entries(path: str, size: int, media: Media) -> Iterator[_Entry]:
    if not (media.is_diode and path.startswith(layout.WHEELS + "/") and path.endswith(".whl") and size > 1):
        yield _Entry(path, path, 0, size)
        return
    # At least two: the beginning and the directory of an archive never lie in one piece.
    length = min(PIECE_BYTES, -(-size // 2))
    for number, begin in enumerate(range(0, size, length)):
        yield _Entry(f"{path}.p{number:04d}", path, begin, min(length, size - begin))


def _cost(entries: Sequence[_Entry], media: Media) -> int:
    blocks = sum(-(-each.size // media.block_bytes) * media.block_bytes for each in entries)
    return blocks + sum(2 * (len(each.path) + 67) for each in entries)  # lines: in its list, and in a copy


def _make_fresh(out: Path, *, wipe: bool) -> None:
    with room.writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for each in sorted(out.iterdir()):
            if volumes.FOLDER.fullmatch(each.name) and each.is_dir() and not each.is_symlink():
                if not wipe:
                    raise RequestError(
                        f"{each} is a volume of an earlier run",
                        code="output_not_fresh",
                        hint="parts of two runs must not mix: --wipe removes the volumes there",
                    )
                shutil.rmtree(each)
            elif each.name not in _NOT_OURS:
                raise RequestError(
                    f"{out} is not empty: {each.name}",
                    code="output_not_fresh",
                    hint="name a new folder, or an empty medium",
                )


def _write(
    bundle: Path,
    out: Path,
    volume: Volume,
    entries: Sequence[_Entry],
    digests: Mapping[str, str],
    meter: Meter,
) -> dict[str, str]:
    """One volume's files, without its list; their digests by path."""
    root = out / volume.folder
    described = volumes.dump(volume)
    with room.writing(root):
        root.mkdir()
        _write_file(root / volumes.NAME, described)
    found = {volumes.NAME: reading.digest_of(described)}
    for source, group in itertools.groupby(entries, key=lambda each: each.source):
        found |= _cut(bundle, source, root, list(group), digests.get(source), meter)
    return found


def _cut(
    bundle: Path, source: str, root: Path, entries: Sequence[_Entry], digest: str | None, meter: Meter
) -> dict[str, str]:
    """A file of the bundle as one of the volume or as several; their digests by path."""
    found: dict[str, str] = {}
    whole = hashlib.sha256()
    with reading.readable(bundle / source), reading.opened(bundle, source) as (fd, _size):
        chunks = reading.chunks(fd)
        left = memoryview(b"")
        for each in entries:
            target = root / each.path
            hasher = hashlib.sha256()
            with _target(bundle, each, target) as to:
                done = 0
                while done < each.size:
                    left = left or next(chunks, left)
                    if not left:
                        raise RequestError(f"{source} became shorter meanwhile", code="bundle_incomplete")
                    taken = left[: each.size - done]
                    hasher.update(taken)
                    whole.update(taken)
                    with room.writing(target):
                        to(taken)
                    left, done = left[len(taken) :], done + len(taken)
                    meter.told(len(taken))
            found[each.path] = hasher.hexdigest()
    if digest is not None and whole.hexdigest() != digest:
        raise BundleRefused(Exit.WRONG_DIGEST, f"{bundle}: {source} has other bytes than were listed")
    return found


@contextmanager
def _target(bundle: Path, entry: _Entry, target: Path) -> Iterator[Callable[[memoryview], object]]:
    """What takes a file's bytes: the new file, or nothing where the bundle's own could be linked."""
    with room.writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    if _link(bundle, entry, target):
        yield len
        return
    with room.writing(target):
        file = target.open("xb")
    with file:
        yield file.write
        with room.writing(target):
            _sync(file)


def _link(bundle: Path, entry: _Entry, target: Path) -> bool:
    """No second copy of a model where both lie on one disk."""
    if entry.path != entry.source:
        return False
    try:
        os.link(bundle / entry.source, target, follow_symlinks=False)
    except OSError:  # another disk, or a file system without links: it is copied
        return False
    return True


def _finish(out: Path, first: Volume, written: Sequence[dict[str, str]], media: Media) -> None:
    """The lists, each volume's own last: what has one is whole. Volume 1 tells what the others hold."""
    told: dict[str, bytes] = {}
    for number in [*range(2, first.of + 1), 1]:
        root = out / numbered(first, number).folder
        with room.writing(root):
            if number == 1 or (media.is_diode and number == first.of):
                for name, data in told.items():
                    _write_file(root / name, data)
                    written[number - 1][name] = reading.digest_of(data)
            told[volumes.list_name(number)] = volumes.dump_list(written[number - 1])
            _write_file(root / volumes.list_name(number), told[volumes.list_name(number)])
            durable.fsync_dir(root)


def _write_file(path: Path, data: bytes) -> None:
    """No mode is set: a FAT medium knows none."""
    with path.open("xb") as file:
        file.write(data)
        _sync(file)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
