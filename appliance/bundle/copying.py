"""From media to the host's own disk: volumes in any order, in one run or in many, each file checked.

    take(paths, site)  ─►  staging/<serial>/…   exactly the bundle's files, at their paths

1. A file is copied beside its place, hashed while it is read, synced, and only then gets its name: what
   bears a name in `staging/` had the right bytes. A run that was killed, a torn disc or a full disk costs one
   file.
2. Digests come from the bundle's `SHA256SUMS` as soon as the volume with it came, from the volume's own list
   until then; when it comes, what was copied before is held against it.
3. Models that the store holds already are hashed there again and not copied (`holding.py`); a delta relies on
   that. `Taken.present` tells which: the verification reads them once more.
4. Nothing is believed. What is installed is what `verifying.verify` finds in the folder afterwards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance import durable
from appliance.bundle import layout, manifest, notes, reading, room, sources, store, sums
from appliance.bundle.flushing import Flushed
from appliance.bundle.holding import Held, check_held, find_held
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.meter import Meter, Progress
from appliance.bundle.missing import Lists, Missing, find_missing, is_staged
from appliance.bundle.notes import Notes
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.sources import Source
from appliance.bundle.volumes import PIECE

_PART = re.compile(layout.BLOBS + r"/[0-9a-f]{2}/[0-9a-f]{64}(\.p[0-9]{4})?")


@dataclass(frozen=True, slots=True)
class Taken:
    """A staged copy. `manifest`: None until the volume with it came. `missing`: empty when all is here.

    `present`: what the store holds in place of staged files, by SHA-256, as `verifying.verify` takes it.
    """

    staging: Path
    serial: int
    manifest: Manifest | None
    missing: tuple[Missing, ...]
    num_copied: int
    num_skipped: int
    present: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class _Item:
    """A file of the bundle on a medium, in pieces where the medium cuts it. `digest`: "" if unknown."""

    source: Source
    path: str
    files: tuple[str, ...]
    digest: str
    limit: int  # bytes; exactly so many where `is_exact`
    is_exact: bool

    @property
    def size(self) -> int:
        return sum(self.source.sizes[each] for each in self.files)


@dataclass(slots=True)
class _Tally:
    """How each file of this run ended. A file that one medium can't give, another may."""

    copied: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    failed: dict[str, BundleRefused] = field(default_factory=dict)


def take(paths: Sequence[Path], site: Site, *, progress: Progress | None = None) -> Taken:
    """Copy what these media hold of one bundle; call it again with the next ones.

    BundleRefused, after everything good was kept: 11 for what is malformed or of two bundles, 14 where there
    is nothing or a delta's base is not held, 16 for altered bytes or a file that nobody listed, 17 for an
    altered base, 22 for a full disk or a medium that can not be read, 30 while another import runs.
    """
    with notes.locked(site):
        given = sources.find(paths)
        _refuse_another(site, given)
        known = notes.begin(site, given[0].volume)
        known.set_complete(complete=False)
        before = known.lists
        for each in given:
            known = known.keep(each.lists, prevail=each.has_lists)
        staging = site.staging / str(known.volume.serial)
        with room.writing(staging):
            durable.make_public_dir(staging)
            known.copying.unlink(missing_ok=True)
        lists = _lists(given, staging, known)
        held = find_held(site, staging, lists.manifest) if lists else []
        if lists is not None:
            _drop_foreign(staging, lists, [*before.values(), *known.lists.values()], given)
        items = [item for each in given for item in _items(each, lists)]
        total = _require_room(site, staging, items, held, lists)
        total += sum(each.size for each in held if each.sha256 not in known.held)
        meter = Meter(progress, total)
        good = check_held(site, known, held, meter.told)
        known = known.keep_held(each.sha256 for each in good)
        covered = {path for each in good for path in each.paths}
        tally = _Tally()
        for item in items:
            if item.path not in covered:
                _take(item, staging, known, meter, tally)
        if tally.failed:
            raise _worst(tally)
        missing = find_missing(staging, known, lists, covered)
        known.set_complete(complete=not missing)
    return Taken(
        staging=staging,
        serial=known.volume.serial,
        manifest=lists.manifest if lists else None,
        missing=missing,
        num_copied=len(tally.copied),
        num_skipped=len(tally.skipped),
        present={each.sha256: store.place(site, each.sha256) for each in good},
    )


def state(site: Site, serial: int) -> Taken | None:
    """What is staged of a serial, and what is still missing, by name only; None where nothing is."""
    known = notes.read(site, serial)
    if known is None:
        return None
    staging = site.staging / str(serial)
    lists = _staged_lists(staging, known)
    held = find_held(site, staging, lists.manifest) if lists else []
    good = [each for each in held if each.sha256 in known.held]
    missing = find_missing(staging, known, lists, {path for each in good for path in each.paths})
    present = {each.sha256: store.place(site, each.sha256) for each in good}
    return Taken(staging, serial, lists.manifest if lists else None, missing, 0, 0, present)


def _refuse_another(site: Site, given: Sequence[Source]) -> None:
    """A later volume of another bundle is a mistake; a first one begins another import."""
    serial = given[0].volume.serial
    others = [each for each in notes.unfinished(site) if each != serial]
    if others and notes.read(site, serial) is None and not any(each.has_lists for each in given):
        raise BundleRefused(
            Exit.BAD_METADATA,
            f"this is volume {given[0].volume.number} of serial {serial}, "
            f"and serial {others[0]} is being imported",
            hint=f"give the volumes of {others[0]}, or volume 1 of {serial}, or first run: "
            f"appliance bundle import --discard {others[0]}",
        )


def _lists(given: Sequence[Source], staging: Path, known: Notes) -> Lists | None:
    """From a medium or from what was staged; a medium that can not give them may be one of two that do."""
    if (found := _staged_lists(staging, known)) is not None:
        return found
    refused: BundleRefused | None = None
    for each in given:
        if each.has_lists:
            try:
                return Lists(*sources.read_lists(each))
            except BundleRefused as error:
                refused = refused or error
    if refused is not None:
        raise refused
    return None


def _staged_lists(staging: Path, known: Notes) -> Lists | None:
    """None where they are not there; copied anew where they are not what they were."""
    try:
        listed = reading.read_small(staging, layout.SUMS, layout.MAX_SUMS_BYTES)
        described = reading.read_small(staging, layout.MANIFEST, layout.MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        return None
    if reading.digest_of(listed) != known.volume.sums_sha256:
        return None
    digests = sums.parse(listed)
    if digests.get(layout.MANIFEST) != reading.digest_of(described):
        return None
    return Lists(digests, manifest.parse(described))


def _items(source: Source, lists: Lists | None) -> Iterator[_Item]:
    """What of a medium is copied now. Without the bundle's lists that is parts of models only."""
    if lists is None:
        for path in sorted(source.sizes):
            if _PART.fullmatch(path):
                size = source.sizes[path]
                yield _Item(source, path, (path,), source.digests[path], size, is_exact=True)
        return
    sizes = manifest.digests(lists.manifest)
    pieces: dict[str, list[str]] = {}
    # The lists first: a run that is interrupted then knows what it copies.
    for path in sorted(source.sizes, key=lambda each: (each not in {layout.SUMS, layout.MANIFEST}, each)):
        listed = source.digests[path]
        digest = lists.sums.get(path)
        piece = PIECE.fullmatch(path)
        if digest is not None:
            if listed not in {"", digest}:
                raise BundleRefused(
                    Exit.BAD_METADATA, f"{source.root}: its list and {layout.SUMS} differ about {path}"
                )
            size = sizes[path][1] if path in sizes else layout.MAX_MANIFEST_BYTES
            yield _Item(source, path, (path,), digest, size, is_exact=path in sizes)
        elif layout.UNLISTED.fullmatch(path):
            yield _Item(source, path, (path,), listed, sources.unlisted_limit(path), is_exact=False)
        elif piece is not None and piece[1] in sizes and piece[1] in lists.sums:
            pieces.setdefault(piece[1], []).append(path)
        else:
            raise BundleRefused(Exit.WRONG_DIGEST, f"{source.root}: nobody signed {path}")
    for path, found in pieces.items():
        every = {each for each in source.digests if (piece := PIECE.fullmatch(each)) and piece[1] == path}
        if every == set(found):  # else the rest comes later
            yield _Item(source, path, tuple(sorted(found)), lists.sums[path], sizes[path][1], is_exact=True)


def _drop_foreign(
    staging: Path, lists: Lists, listed: Sequence[Mapping[str, str]], given: Sequence[Source]
) -> None:
    """Remove what an earlier run copied and the bundle's lists do not know, or know with another digest."""
    unlisted = {path for each in listed for path in each}
    unlisted |= {path for each in given for path in each.digests}
    allowed = set(lists.sums) | {path for path in unlisted if layout.UNLISTED.fullmatch(path)}
    foreign = set(reading.list_files(staging)) - allowed
    for each in listed:
        foreign |= {path for path, digest in each.items() if lists.sums.get(path, digest) != digest}
    for path in foreign:
        (staging / path).unlink(missing_ok=True)


def _require_room(
    site: Site, staging: Path, items: Iterable[_Item], held: Sequence[Held], lists: Lists | None
) -> int:
    """Bytes that this run copies. BundleRefused (22) where the disk can not take all that is to come."""
    covered = {path for each in held for path in each.paths}
    wanted = {each.path: each.size for each in items if each.path not in covered}
    total = sum(wanted.values())
    if lists is not None:  # also what other volumes hold: better told now than at the third disc
        wanted |= {
            path: size for path, (_, size) in manifest.digests(lists.manifest).items() if path not in covered
        }
    room.require(site.staging, [size for path, size in wanted.items() if not is_staged(staging / path, size)])
    return total


def _take(item: _Item, staging: Path, known: Notes, meter: Meter, tally: _Tally) -> None:
    if item.path in tally.copied | tally.skipped:
        return  # given twice
    target = staging / item.path
    if item.digest and is_staged(target, item.size):
        if reading.hash_file(staging, item.path, meter.told).sha256 == item.digest:
            tally.skipped.add(item.path)
            tally.failed.pop(item.path, None)
            return
        meter.total += item.size  # torn: it is read from the medium after all
    try:
        if item.size > item.limit or (item.is_exact and item.size != item.limit):
            raise _altered(item, f"has {item.size} bytes, not {item.limit}")
        _copy(item, target, known.copying, meter)
    except OSError as error:
        tally.failed[item.path] = BundleRefused(
            Exit.DISK,
            f"{item.source.root}: {item.path} can not be read: {error.strerror}",
            hint=reading.TRY_AGAIN,
        )
    except BundleRefused as error:
        if error.exit is not Exit.WRONG_DIGEST:
            raise  # this host's disk
        tally.failed[item.path] = error
    else:
        tally.copied.add(item.path)
        tally.failed.pop(item.path, None)


def _copy(item: _Item, target: Path, copying: Path, meter: Meter) -> None:
    """OSError where the medium can't be read; BundleRefused: 16 for other bytes, 22 for this host's disk."""
    with room.writing(target):
        durable.make_public_dir(target.parent)
        fd = os.open(copying, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    flushed = Flushed(fd)
    try:

        def write(chunk: memoryview) -> None:
            with room.writing(target):
                flushed.write(chunk)

        found = reading.hash_all(item.source.root, item.files, meter.told, to=write)
        if item.digest and found.sha256 != item.digest:
            raise _altered(item, "has other bytes than were listed")
        with room.writing(target):
            os.fchmod(fd, store.FILE_MODE)
            flushed.finish()
            copying.replace(target)
            durable.fsync_dir(target.parent)
    finally:
        flushed.close()
        os.close(fd)
        copying.unlink(missing_ok=True)


def _altered(item: _Item, what: str) -> BundleRefused:
    piece = _wrong_piece(item)
    return BundleRefused(
        Exit.WRONG_DIGEST,
        f"volume {item.source.volume.number} ({item.source.root}): {piece} {what}",
        hint="write this medium anew, or send the file again; what was good is kept",
    )


def _wrong_piece(item: _Item) -> str:
    """Of a file that the medium cuts: the first piece that is not what the medium's list says."""
    if len(item.files) > 1:
        for each in item.files:
            if reading.hash_file(item.source.root, each).sha256 != item.source.digests[each]:
                return each
    return item.path


def _worst(tally: _Tally) -> BundleRefused:
    """One refusal for all: altered bytes before a medium that can't be read; how many more there are."""
    every = sorted(tally.failed.values(), key=lambda each: (each.exit is not Exit.WRONG_DIGEST, each.message))
    more = f" (and {len(every) - 1} more files)" if len(every) > 1 else ""
    return BundleRefused(every[0].exit, every[0].message + more, hint=every[0].hint)
