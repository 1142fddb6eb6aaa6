"""What the store holds of a bundle already: hashed there again, and linked into the staged copy.

A model then lies in `staging/` as one file, `blobs/sha256/ab/<digest>`, in place of its parts; a wheel at its
own path. A delta leaves out what its host is said to hold: where that is gone or altered, it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance import durable
from appliance.bundle import layout, room, store
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.missing import is_staged
from appliance.bundle.reading import Told
from appliance.bundle.refusals import BundleRefused, Exit


@dataclass(frozen=True, slots=True)
class Held:
    """Content that the store is to give. `replaces`: the parts in whose place it lies.

    `is_base`: the bundle leaves it out, so that nothing else can give it.
    """

    sha256: str
    size: int
    name: str
    path: str
    replaces: tuple[str, ...] = ()
    is_base: bool = False


def find_held(site: Site, staging: Path, of: Manifest) -> list[Held]:
    """What a delta leaves out, and models of which the store has a file of that name and size.

    BundleRefused (11) where a delta leaves out what it does not list.
    """
    omitted = set(of.delta.omitted) if of.delta else set()
    found = [
        Held(each.sha256, each.size, each.path, each.path, is_base=True)
        for each in of.files
        if each.sha256 in omitted
    ]
    for blob in of.blobs:
        whole = layout.blob_path(blob.sha256)
        parts = tuple(blob.paths) if blob.parts else ()
        held = Held(blob.sha256, blob.size, blob.name, whole, parts, is_base=blob.sha256 in omitted)
        copied = bool(parts) and all((staging / path).exists() for path in parts)
        if held.is_base or (not copied and is_staged(store.place(site, blob.sha256), blob.size)):
            found.append(held)
    if unknown := omitted - {each.sha256 for each in found}:
        raise BundleRefused(Exit.BAD_METADATA, f"the delta leaves out {min(unknown)}, which it does not list")
    return found


def is_linked(site: Site, staging: Path, held: Held) -> bool:
    """Whether an earlier run hashed and linked it."""
    target, place = staging / held.path, store.place(site, held.sha256)
    return target.exists() and place.exists() and target.samefile(place)


def link_held(site: Site, staging: Path, every: Sequence[Held], told: Told) -> list[Held]:
    """Link what is unaltered; returned is what lies in the staged copy now.

    BundleRefused: 14 where a delta's base is not held, 17 where it is altered; each is named.
    """
    linked: list[Held] = []
    gone: list[Held] = []
    altered: list[Held] = []
    for held in every:
        if is_linked(site, staging, held) or _link(site, staging, held, told):
            linked.append(held)
        elif held.is_base:
            (altered if store.place(site, held.sha256).exists() else gone).append(held)
    if altered:
        raise BundleRefused(
            Exit.BAD_BASE,
            f"this delta relies on files of the store that are altered: {_named(altered)}",
            hint="bring the full bundle: the store is mended from it",
        )
    if gone:
        raise BundleRefused(
            Exit.MISSING,
            f"this delta relies on files that this host does not hold: {_named(gone)}",
            hint="bring the full bundle, or a delta made from a new inventory of this host",
        )
    return linked


def _link(site: Site, staging: Path, held: Held, told: Told) -> bool:
    if not store.is_whole(site, held.sha256, told):
        return False
    target = staging / held.path
    with room.writing(target):
        store.make_folder(target.parent)
        target.unlink(missing_ok=True)
        os.link(store.place(site, held.sha256), target)
        for path in held.replaces:
            (staging / path).unlink(missing_ok=True)
        durable.fsync_dir(target.parent)
    return True


def _named(every: Sequence[Held]) -> str:
    return ", ".join(f"{each.name} (sha256 {each.sha256})" for each in every[:5]) + (
        f" and {len(every) - 5} more" if len(every) > 5 else ""
    )
