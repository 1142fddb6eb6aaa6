"""Is this what the signers signed, is it new enough, is it for this host? The order is the argument:

1. the folder holds plain files only; 2. its list is signed (on a bare host: by keys from paper); 3. the
files are those of the list; 4. the manifest is what the list says, of a time that this host's clock has
passed, and for this machine; 5. the metadata is signed by signers whom this host believes, has not expired,
is no older than what was here, and says the same as the list; 6. every byte is what was signed.

Run on the staged copy, never on the medium: what was read here is what is installed.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.bundle import hashing, layout, manifest, metadata, roots, shellview, sums, trusted
from appliance.bundle.hashing import Wanted
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.metadata import Believed
from appliance.bundle.meter import Progress
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.trusted import State, Verified
from appliance.clock import Clock


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a folder before any large file: nothing of it is read again."""

    files: dict[str, int]
    sums_bytes: bytes
    sums: dict[str, str]
    manifest: Manifest
    metadata: dict[str, bytes]
    places: dict[str, tuple[Path, str]]


def verify(
    staged: Path,
    site: Site,
    clock: Clock,
    *,
    fingerprints: Iterable[str] = (),
    progress: Progress | None = None,
    allow_downgrade: bool = False,
    present: Mapping[str, Path] | None = None,
    refresh: Path | None = None,
    machine: str | None = None,
) -> Verified:
    """Checks every byte of a staged bundle. BundleRefused says what is wrong, each with its exit code.

    `fingerprints`: from paper, where this host believes nobody yet. `present`: files of the host's store by
    SHA-256, which stand in for those that the folder lacks; they are read too. `refresh`: a folder with later
    metadata. `machine`: as `uname -m` says it. Nothing is written: `trusted.accept` does that.
    """
    state = trusted.load(site)
    prints = tuple(fingerprints)
    if state is None and not prints:
        raise BundleRefused(
            Exit.BAD_SIGNATURE,
            "this host believes no signer yet",
            hint="give two fingerprints from paper: --fingerprint …",
        )
    held = present or {}
    read = _read(staged, prints, held)
    _check_fit(read.manifest, state, clock, machine or platform.machine())
    files = _with_refresh(read.metadata, refresh)
    believed = _believe(read.manifest, files, state, clock, allow_downgrade=allow_downgrade)
    metadata.agree(read.sums, read.manifest, believed)
    wanted = _wanted(staged, read, believed)
    hashing.check(wanted, progress)
    root = believed.root
    return Verified(
        manifest=read.manifest,
        key_ids=believed.signers,
        sums_sha256=hashlib.sha256(read.sums_bytes).hexdigest(),
        num_files=len(read.sums),
        num_bytes=sum(each.size for each in wanted),
        signers=tuple(sorted(roots.name_of(root, each) for each in believed.signers)),
        expires=believed.expires,
        chain=believed.chain,
        timestamp=believed.timestamp,
        snapshot=believed.snapshot,
        targets=believed.targets,
        revoked=believed.claims.revoked,
    )


def take_refresh(refresh: Path, site: Site, clock: Clock) -> Believed:
    """Remember, durably, later metadata of the newest bundle accepted here. BundleRefused otherwise.

    It moves the date of expiry, and may bring new signers and serials that were taken back.
    """
    state = trusted.load(site)
    if state is None:
        raise BundleRefused(Exit.BAD_SIGNATURE, "this host believes no signer yet: verify a bundle first")
    _check_clock(state.time_floor, clock)
    chain = tuple(each.encode() for each in state.roots)
    files = metadata.read(refresh / layout.METADATA)
    found = metadata.believe(chain[-1], files, state.remembered, clock.now_us())
    found = replace(found, chain=(*chain[:-1], *found.chain))
    if _but_manifest(found.files) != _but_manifest(metadata.listed(state.targets.encode())):
        raise BundleRefused(Exit.BAD_METADATA, "this is no refresh of the bundle taken last")
    trusted.refreshed(site, state, found)
    return found


def _but_manifest(files: Mapping[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """What a full bundle and a delta of it have in common."""
    return {path: each for path, each in files.items() if path != layout.MANIFEST}


def _read(staged: Path, prints: tuple[str, ...], held: Mapping[str, Path]) -> _Read:
    """Steps 1 to 3, and the manifest."""
    files = shellview.walk(staged)
    sums_bytes = shellview.small(staged, layout.SUMS, layout.MAX_SUMS_BYTES)
    if not sums_bytes:
        raise BundleRefused(Exit.BAD_METADATA, "the list of digests is empty")
    signers = shellview.signed_by(staged, files, sums_bytes)
    if prints:
        shellview.on_paper(signers, prints)
    listed = sums.parse(sums_bytes)
    manifest_bytes = shellview.small(staged, layout.MANIFEST, layout.MAX_MANIFEST_BYTES)
    _same(layout.MANIFEST, manifest_bytes, listed)
    found = manifest.parse(manifest_bytes)
    places = _stand_ins(files, found, listed, held)
    shellview.check_set(files, listed, places)
    documents = metadata.read(staged / layout.METADATA)
    for name, data in documents.items():
        path = f"{layout.METADATA}/{name}"
        if not layout.UNLISTED.fullmatch(path):
            _same(path, data, listed)
    return _Read(files, sums_bytes, listed, found, documents, places)


def _with_refresh(files: dict[str, bytes], refresh: Path | None) -> dict[str, bytes]:
    """The bundle's metadata and what a refresh adds.

    A refresh is in no list that was signed with keys from paper: it never replaces a root that is.
    """
    if refresh is None:
        return files
    later = metadata.read(refresh / layout.METADATA)
    return later | files | {metadata.TIMESTAMP: later[metadata.TIMESTAMP]}


def _check_fit(found: Manifest, state: State | None, clock: Clock, machine: str) -> None:
    """Step 4, before The Update Framework says "expired" of a clock that is wrong."""
    _check_clock(max(found.built, state.time_floor if state is not None else ""), clock)
    if found.platform.arch != machine:
        raise BundleRefused(
            Exit.WRONG_PLATFORM, f"the bundle is for {found.platform.arch}, this machine is {machine}"
        )


def _check_clock(floor: str, clock: Clock) -> None:
    now = manifest.moment(clock.now_us())
    if now < floor:
        raise BundleRefused(
            Exit.CLOCK_WRONG,
            f"this host's clock says {now}, and it is known to be later than {floor}",
            hint="set the clock, and try again",
        )


def _believe(
    found: Manifest, files: Mapping[str, bytes], state: State | None, clock: Clock, *, allow_downgrade: bool
) -> Believed:
    """Step 5, and who may go back."""
    bootstrap, known = _bootstrap(files, state)
    remembered: Mapping[str, bytes] = state.remembered if state is not None and not allow_downgrade else {}
    judged, remembered = _newest(files, remembered, found.serial)
    believed = metadata.believe(bootstrap, judged, remembered, clock.now_us())
    if known:
        believed = replace(believed, chain=(*known, *believed.chain))
    if state is not None:
        highest = trusted.highest(state, believed.root)
        if found.serial < highest and not allow_downgrade:
            raise BundleRefused(
                Exit.DOWNGRADE,
                f"the bundle is number {found.serial}, and this host had {highest} before",
                hint="a kept release comes back with: appliance bundle rollback",
            )
        if found.serial in trusted.revoked(state, believed.root):
            raise BundleRefused(Exit.REVOKED, f"the signers took number {found.serial} back")
    if found.serial in believed.claims.revoked:
        raise BundleRefused(Exit.REVOKED, f"the signers took number {found.serial} back")
    return believed


def _bootstrap(files: Mapping[str, bytes], state: State | None) -> tuple[bytes, tuple[bytes, ...]]:
    """The root that everything else is believed by, and those before it."""
    if state is not None:
        chain = tuple(each.encode() for each in state.roots)
        return chain[-1], chain[:-1]
    if roots.path(1) not in files:
        raise BundleRefused(Exit.MISSING, f"{layout.METADATA}/{roots.path(1)} is not there")
    roots.check([files[roots.path(1)]])
    return files[roots.path(1)], ()


def _newest(
    files: Mapping[str, bytes], remembered: Mapping[str, bytes], serial: int
) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
    """What the client is to judge, and what it is to remember from before.

    A refresh that came to this host earlier stands in for the bundle's own, older metadata. A full bundle and
    a delta of one serial are as new as each other: neither is an older version of the other.
    """
    kept = remembered.get(metadata.TIMESTAMP)
    if kept is None or metadata.version_of(kept) // metadata.VERSIONS_PER_SERIAL != serial:
        return files, remembered
    if metadata.unsigned(files)[0] != metadata.listed(remembered["targets.json"]):
        return files, {}
    if metadata.version_of(kept) > metadata.version_of(files[metadata.TIMESTAMP]):
        return {**files, metadata.TIMESTAMP: kept}, remembered
    return files, remembered


def _stand_ins(
    files: Mapping[str, int], found: Manifest, listed: Mapping[str, str], held: Mapping[str, Path]
) -> dict[str, tuple[Path, str]]:
    """For paths that the folder lacks: the host's file that stands in, and its digest.

    Content is held by its own digest, or by that of the whole blob that it is a part of.
    """
    places = {path: (held[sha256], sha256) for path, sha256 in listed.items() if sha256 in held}
    for blob in found.blobs:
        if blob.sha256 in held:
            places |= dict.fromkeys(blob.paths, (held[blob.sha256], blob.sha256))
    return {path: place for path, place in places.items() if path not in files}


def _wanted(staged: Path, read: _Read, believed: Believed) -> list[Wanted]:
    """Step 6: what is still to be hashed. The manifest and the roots were, when they were read."""
    whole = {blob.sha256: blob.size for blob in read.manifest.blobs}
    done = {layout.MANIFEST, *(f"{layout.METADATA}/{name}" for name in read.metadata)}
    found: dict[Path, Wanted] = {}
    for path, (sha256, size) in believed.files.items():
        if path in read.files:
            if path not in done:
                found[staged / path] = Wanted(path, staged / path, sha256, size)
        else:
            place, digest = read.places[path]
            found[place] = Wanted(path, place, digest, whole.get(digest, size))
    return list(found.values())


def _same(path: str, data: bytes, listed: Mapping[str, str]) -> None:
    if path in listed and hashlib.sha256(data).hexdigest() != listed[path]:
        raise BundleRefused(Exit.WRONG_DIGEST, f"not what was signed: {path}")
