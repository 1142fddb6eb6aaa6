"""What a host's store holds, told to the connected side, which then leaves it out of a delta.

    {"format":"appliance-inventory/1","held":["<sha256>",…],"product":"appliance","serials":[36,37]}

Digests and serials of kept releases: no name, no address, no configuration. The same canonical form as a
manifest's: sorted keys, no spaces, one trailing line feed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from appliance.bundle import canonical, store
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest, Serial, Sha256
from appliance.bundle.meter import Meter, Progress
from appliance.bundle.refusals import BundleRefused, Exit

FORMAT: Final = "appliance-inventory/1"
MAX_BYTES: Final = 4 * 1024 * 1024


class Inventory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`held`: digests of models and wheels. `serials`: of the releases that the host keeps. Both sorted."""

    format: Literal["appliance-inventory/1"]
    product: Literal["appliance"]
    serials: tuple[Serial, ...]
    held: tuple[Sha256, ...]


@dataclass(frozen=True, slots=True)
class Stock:
    """An inventory, and what was left out of it because its bytes are not those of its name."""

    inventory: Inventory
    altered: tuple[str, ...]
    num_bytes: int


def take_stock(site: Site, *, progress: Progress | None = None) -> Stock:
    """Read the store in full: a delta that relies on an altered file would be carried in for nothing."""
    sizes = store.held(site)
    meter = Meter(progress, sum(sizes.values()))
    good = tuple(digest for digest in sorted(sizes) if store.is_whole(site, digest, meter.told))
    serials = tuple(sorted({each.serial for each in store.releases(site)}))
    return Stock(
        Inventory(FORMAT, "appliance", serials, good),
        altered=tuple(sorted(sizes.keys() - set(good))),
        num_bytes=sum(sizes[digest] for digest in good),
    )


def of_bundle(base: Manifest) -> Inventory:
    """What a host holds that has installed this bundle."""
    return Inventory(FORMAT, "appliance", (base.serial,), tuple(sorted(store.needed(base))))


def parse(data: bytes) -> Inventory:
    """An inventory that keeps to its format. BundleRefused (11) says what does not."""
    found = canonical.decode(data, Inventory, name="the inventory", limit=MAX_BYTES)
    if list(found.held) != sorted(set(found.held)) or list(found.serials) != sorted(set(found.serials)):
        raise BundleRefused(Exit.BAD_METADATA, "the inventory is not sorted, or names something twice")
    return found


def dump(inventory: Inventory) -> bytes:
    """The canonical bytes."""
    return canonical.encode(inventory)
