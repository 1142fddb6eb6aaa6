"""What this host believed before: `trust/trust.json`, one file, replaced atomically and durably.

It holds the chain of roots, the newest metadata, the highest serial that each group of signers vouched for,
and the latest moment that is known to have been. It lies outside releases and outside the home, so that no
rollback takes it back.

A remembered serial counts only while the signers who vouched for it would still be believed. So a thief of
keys who signs serial 99999 locks nobody out: the root that removes the keys removes that serial.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from tuf.api.metadata import Root

from appliance import durable
from appliance.bundle import roots
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest, Moment, Serial, Sha256, moment
from appliance.bundle.metadata import Believed
from appliance.bundle.refusals import BundleRefused, Exit

FORMAT: Final = "appliance-trust/1"
_FILE: Final = "trust.json"
_MAX_BYTES: Final = 64 * 1024 * 1024
Document = Annotated[str, Meta(max_length=8 * 1024 * 1024)]


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The highest serial that these signers vouched for, and the serials that they took back."""

    serial: Serial
    signers: tuple[Sha256, ...]
    revoked: tuple[Serial, ...] = ()


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `roots`: 1 first; the three documents are those of the highest serial."""

    format: Annotated[str, Meta(pattern="^appliance-trust/1$")]
    roots: tuple[Document, ...]
    timestamp: Document
    snapshot: Document
    targets: Document
    accepted: tuple[Accepted, ...]
    time_floor: Moment

    @property
    def remembered(self) -> dict[str, bytes]:
        """What The Update Framework's client finds in its own folder."""
        names = ("timestamp", "snapshot", "targets")
        return {f"{name}.json": str(getattr(self, name)).encode() for name in names}


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle of which every byte was checked, and the metadata that vouches for it.

    `key_ids`: fingerprints of the targets keys that signed. `num_bytes`: of all files that were read.
    """

    manifest: Manifest
    key_ids: tuple[str, ...]
    sums_sha256: str
    num_files: int
    num_bytes: int
    signers: tuple[str, ...]
    expires: datetime
    chain: tuple[bytes, ...]
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    revoked: tuple[int, ...] = ()


def load(site: Site) -> State | None:
    """What this host believes; None before the first installation. BundleRefused (20) where it is damaged."""
    path = site.trust / _FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError("too large")
        state = msgspec.json.decode(data, type=State)
        roots.check([each.encode() for each in state.roots])
    except (ValueError, msgspec.MsgspecError, BundleRefused) as error:
        raise BundleRefused(
            Exit.PREFLIGHT,
            f"what this host trusts is damaged: {error}",
            hint=f"restore {path} from the host's backup",
        ) from error
    return state


def accept(site: Site, verified: Verified, now: int) -> State:
    """Believe this bundle from now on, durably. Idempotent. `now` in microseconds. OSError as the disk says.

    A crash leaves the old state or the new one. A bundle that was let in though it is older changes neither
    the metadata that is remembered nor the highest serial.
    """
    before = load(site)
    serial = verified.manifest.serial
    entry = Accepted(serial, verified.key_ids, verified.revoked)
    if before is None:
        # A clock that runs ahead must not lock this host out for ever: the floor is what signers wrote.
        return _write(site, _state(verified, (entry,), min(verified.manifest.built, moment(now))))
    accepted = _merged((*before.accepted, entry))
    floor = max(before.time_floor, verified.manifest.built)
    if serial >= highest(before, roots.check(verified.chain)):
        return _write(site, _state(verified, accepted, floor))
    chain = tuple(each.decode() for each in verified.chain)
    changed = msgspec.structs.replace(before, roots=chain, accepted=accepted, time_floor=floor)
    return _write(site, changed)


def refreshed(site: Site, before: State, found: Believed) -> State:
    """Remember later metadata of the bundle that was accepted last."""
    entry = Accepted(found.claims.serial, found.signers, found.claims.revoked)
    return _write(site, _state(found, _merged((*before.accepted, entry)), before.time_floor))


def highest(state: State, root: Root) -> int:
    """The highest serial whose signers `root` still believes; 0 for none."""
    return max((each.serial for each in _believed(state, root)), default=0)


def revoked(state: State, root: Root) -> set[int]:
    """Serials that signers whom `root` still believes took back."""
    return {serial for each in _believed(state, root) for serial in each.revoked}


def _believed(state: State, root: Root) -> list[Accepted]:
    role = root.roles["targets"]
    return [each for each in state.accepted if len(set(role.keyids) & set(each.signers)) >= role.threshold]


def _state(found: Verified | Believed, accepted: tuple[Accepted, ...], floor: str) -> State:
    return State(
        format=FORMAT,
        roots=tuple(each.decode() for each in found.chain),
        timestamp=found.timestamp.decode(),
        snapshot=found.snapshot.decode(),
        targets=found.targets.decode(),
        accepted=accepted,
        time_floor=floor,
    )


def _write(site: Site, state: State) -> State:
    durable.make_public_dir(site.trust)
    data = msgspec.json.format(msgspec.json.encode(state)) + b"\n"
    durable.write_file(site.trust / _FILE, data, mode=0o644)
    return state


def _merged(entries: Iterable[Accepted]) -> tuple[Accepted, ...]:
    """One entry for each group of signers."""
    found: dict[tuple[str, ...], Accepted] = {}
    for each in entries:
        signers = tuple(sorted(each.signers))
        old = found.get(signers)
        serial = max(each.serial, old.serial if old else 0)
        gone = set(each.revoked) | set(old.revoked if old else ())
        found[signers] = Accepted(serial, signers, tuple(sorted(gone)))
    return tuple(found[signers] for signers in sorted(found))
