"""A bundle without what its host holds already: made on the connected side, before anybody signs.

    delta(bundle, inventory, out)  ─►  out/   a folder with a manifest of its own, of kind "delta"

The manifest and `SHA256SUMS` go on listing every file: what is signed is the whole release, and the host
holds its own store's files against it before it installs. Only models and wheels are left out, because only
they are kept in a store; a model is left out whole. There are no differences of bytes between models: two
quantizations of one model have little in common.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from appliance.bundle import folder, hashing, layout, manifest, reading, room, store, sums
from appliance.bundle.inventory import Inventory
from appliance.bundle.manifest import Delta, left_out
from appliance.bundle.meter import Meter, Progress, Told
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError


def delta(bundle: Path, held: Inventory, out: Path, *, progress: Progress | None = None) -> Path:
    """Write the delta; `out`. Every file of it is hashed on the way.

    RequestError where the bundle is signed or a delta itself, where nothing could be left out, or where `out`
    is there already; BundleRefused: 11, 14, 16 where the bundle is not what it lists, 22 where the disk gives
    out.
    """
    with reading.readable(bundle):
        sizes = reading.list_files(bundle)
        digests = sums.parse(reading.read_small(bundle, layout.SUMS, layout.MAX_SUMS_BYTES))
        data = reading.read_small(bundle, layout.MANIFEST, layout.MAX_MANIFEST_BYTES)
    _require_unsigned(sizes)
    _require_digest(layout.MANIFEST, reading.digest_of(data), digests)
    full = manifest.parse(data)
    if full.kind != "full":
        raise RequestError(
            "this is a delta already", code="bundle_is_delta", hint="start from the full bundle"
        )
    omitted = tuple(sorted(set(held.held) & store.needed(full).keys()))
    if not omitted:
        raise RequestError(
            "that host holds nothing of this bundle",
            code="delta_saves_nothing",
            hint="carry the full bundle",
        )
    if out.exists():
        raise RequestError(f"{out} exists; it is not overwritten", code="file_exists", param="out")
    smaller = msgspec.structs.replace(full, kind="delta", delta=Delta(held.serials, omitted))
    absent = left_out(smaller)
    taken = [path for path in sorted(digests) if path not in absent and path != layout.MANIFEST]
    if missing := [path for path in taken if path not in sizes]:
        raise BundleRefused(Exit.MISSING, f"the bundle has no {missing[0]}")
    meter = Meter(progress, sum(sizes[path] for path in taken))
    for path in taken:
        _require_digest(path, _copy(bundle, path, out / path, meter.told), digests)
    with room.writing(out):
        folder.write_manifest(out, smaller)
        digests[layout.MANIFEST] = hashing.digest(out / layout.MANIFEST)[0]
        (out / layout.SUMS).write_bytes(sums.dump(digests))
        for path in (layout.MANIFEST, layout.SUMS):
            folder.settle(out / path, int((bundle / layout.MANIFEST).stat().st_mtime))
    return out


def _copy(bundle: Path, path: str, target: Path, told: Told) -> str:
    """A link where both lie on one disk, a copy elsewhere; the digest of what lies there."""
    with room.writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(bundle / path, target, follow_symlinks=False)
        except OSError:  # another disk, or a file system without links
            shutil.copy2(bundle / path, target, follow_symlinks=False)
    with reading.readable(target):
        return reading.hash_file(target.parent, target.name, told).sha256


def _require_unsigned(sizes: dict[str, int]) -> None:
    added = (f"{layout.METADATA}/", f"{layout.KEYS}/", f"{layout.SUMS}.")
    if any(path.startswith(added) for path in sizes):
        raise RequestError(
            "this bundle is signed, or signing it has begun",
            code="bundle_signed",
            hint="make the delta from the folder that `appliance bundle build` wrote, then sign the delta",
        )


def _require_digest(path: str, found: str, digests: dict[str, str]) -> None:
    if digests.get(path) != found:
        raise BundleRefused(Exit.WRONG_DIGEST, f"{path} has other bytes than {layout.SUMS} lists")
