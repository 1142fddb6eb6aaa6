"""What the store holds of a bundle already, so that no medium needs to give it.

A model of the release before is hashed in the store again and stays there: `verifying.verify` gets it as
`present`, and `store.adopt` finds it. A delta leaves out what its host is said to hold: where that is gone or
altered, the delta is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.bundle import store
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.meter import Told
from appliance.bundle.missing import is_staged
from appliance.bundle.notes import Notes
from appliance.bundle.refusals import BundleRefused, Exit, some


@dataclass(frozen=True, slots=True)
class Held:
    """Content that the store is to give, in place of these paths of the bundle.

    `is_base`: the bundle leaves it out, so that nothing else can give it.
    """

    sha256: str
    size: int
    name: str
    paths: tuple[str, ...]
    is_base: bool


def find_held(site: Site, staging: Path, of: Manifest) -> list[Held]:
    """What a delta leaves out, and models of which the store has a file of that name and size.

    BundleRefused (11) where a delta leaves out what it does not list.
    """
    omitted = set(of.delta.omitted) if of.delta else set()
    found = [
        Held(each.sha256, each.size, each.path, (each.path,), is_base=True)
        for each in of.files
        if each.role == "wheel" and each.sha256 in omitted
    ]
    for blob in of.blobs:
        is_base = blob.sha256 in omitted
        is_here = all((staging / path).exists() for path in blob.paths)
        if is_base or (not is_here and is_staged(store.place(site, blob.sha256), blob.size)):
            found.append(Held(blob.sha256, blob.size, blob.name, tuple(blob.paths), is_base))
    if unknown := omitted - {each.sha256 for each in found}:
        raise BundleRefused(Exit.BAD_METADATA, f"the delta leaves out {min(unknown)}, which it does not list")
    return found


def check_held(site: Site, known: Notes, every: Sequence[Held], told: Told) -> list[Held]:
    """Which of them are in the store, unaltered: read in full, once in an import.

    BundleRefused: 14 where a delta's base is not held, 17 where it is altered; each is named.
    """
    good: list[Held] = []
    gone: list[Held] = []
    altered: list[Held] = []
    for each in every:
        place = store.place(site, each.sha256)
        if (each.sha256 in known.held and is_staged(place, each.size)) or (
            store.is_whole(site, each.sha256, told)
        ):
            good.append(each)
        elif each.is_base:
            (altered if place.exists() else gone).append(each)
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
    return good


def _named(every: Sequence[Held]) -> str:
    return some([f"{each.name} (sha256 {each.sha256})" for each in every])
