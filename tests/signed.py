"""Signed bundles for tests: a ceremony of six people, and a small folder that keeps to the format."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from appliance.bundle import folder, keys, layout, manifest, roots, signing, trusted, verifying
from appliance.bundle.keys import Kind, SignerKey
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.trusted import Verified
from appliance.clock import Clock
from tests import bundles

NOW_US = 1_790_000_000_000_000
BUILT = "2026-09-20T00:00:00Z"  # a day before
SHELL_FILES = ("verify.sh", "ed25519_verify.py")
DEPLOY = Path(__file__).parent.parent / "deploy"


def people(*names: str) -> dict[str, SignerKey]:
    return {name: keys.create(name)[0] for name in names}


@dataclass
class Office:
    """Who signs: the chain of roots in `folder`, and everybody's keys."""

    folder: Path
    root_keys: dict[str, SignerKey] = field(default_factory=lambda: people("ruth", "rami", "rosa"))
    targets_keys: dict[str, SignerKey] = field(default_factory=lambda: people("tara", "theo", "tomo"))
    days: int = 3000
    _root_keys_before: dict[str, SignerKey] = field(default_factory=dict)

    @property
    def chain(self) -> list[bytes]:
        return roots.read(self.folder)

    @property
    def some(self) -> list[SignerKey]:
        """Enough of the signers of bundles."""
        return list(self.targets_keys.values())[:2]

    def prints(self, kind: Kind = Kind.ED25519) -> list[str]:
        """The fingerprints of the signers of bundles, on paper."""
        found = [each.public.key(kind) for each in self.targets_keys.values()]
        return [each.fingerprint for each in found if each is not None]

    def publish(self, *, fips: bool = False) -> Office:
        """The next root with the present people, signed by enough of the old and the new."""
        self.folder.mkdir(exist_ok=True)
        before = self.chain if any(self.folder.iterdir()) else []
        old = self._root_keys_before
        document = roots.make(
            [each.public for each in self.root_keys.values()],
            [each.public for each in self.targets_keys.values()],
            now_us=NOW_US,
            days=self.days,
            version=len(before) + 1,
            fips=fips,
        )
        data, previous = roots.dump(document), before[-1] if before else None
        for key in ({**old, **self.root_keys}).values():
            data = roots.sign(data, key, previous)
        (self.folder / roots.path(len(before) + 1)).write_bytes(data)
        self._root_keys_before = dict(self.root_keys)
        return self


def office(folder: Path) -> Office:
    return Office(folder).publish()


def build(place: Path, serial: int = 1, *, arch: str = "x86_64", built: str = BUILT) -> Path:
    """`bundles.tiny`, with the real programs that check a bundle."""
    bundles.tiny(place, serial=serial, built=built, platform=manifest.Platform(arch=arch))
    for name in SHELL_FILES:
        (place / name).write_bytes((DEPLOY / name).read_bytes())
    with_manifest(place, files=folder.describe_all(place))
    return place


def bundle(
    place: Path,
    who: Office,
    serial: int = 1,
    *,
    signers: Sequence[SignerKey] | None = None,
    arch: str = "x86_64",
    days: int = 700,
    revoked: Sequence[int] = (),
) -> Path:
    """A signed bundle."""
    build(place, serial, arch=arch)
    signing.start(place, who.folder, days, revoked=revoked)
    for key in signers if signers is not None else who.some:
        signing.sign(place, key)
    return place


def delta(place: Path, who: Office, serial: int, *, days: int = 700) -> Path:
    """A signed bundle that leaves its model out."""
    build(place, serial)
    blob = manifest.parse((place / layout.MANIFEST).read_bytes()).blobs[0]
    for path in blob.paths:
        (place / path).unlink()
    with_manifest(place, kind="delta", delta=manifest.Delta((serial - 1,), (blob.sha256,)))
    signing.start(place, who.folder, days)
    for key in who.some:
        signing.sign(place, key)
    return place


def copy(of: Path, to: Path) -> Path:
    return Path(shutil.copytree(of, to, symlinks=True))


def resign(place: Path, who: Office, listed: bytes) -> None:
    """Replace the list, and have the signers sign whatever it says."""
    (place / layout.SUMS).write_bytes(listed)
    for key in who.some:
        for public in key.public.keys:
            signature = key.sign(public.kind, listed)
            (place / f"{layout.SUMS}.{public.key_id}.{public.kind}.sig").write_bytes(signature)


def edited(place: Path, old: str, new: str) -> bytes:
    """The list with one word changed."""
    text = (place / layout.SUMS).read_text()
    assert old in text
    return text.replace(old, new, 1).encode()


def with_manifest(place: Path, **changes: object) -> None:
    """Write another manifest; nothing is signed anew."""
    found = manifest.parse((place / layout.MANIFEST).read_bytes())
    changed = msgspec.structs.replace(found, **changes)
    (place / layout.MANIFEST).write_bytes(manifest.dump(changed))


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def install(bundle: Path, site: Site, clock: Clock, office: Office | None = None, **more: Any) -> Verified:
    """Verify and believe, as the installer does."""
    prints = office.prints() if office is not None else ()
    found = verifying.verify(bundle, site, clock, fingerprints=prints, **more)
    trusted.accept(site, found, clock.now_us())
    return found


def refusal(bundle: Path, site: Site, clock: Clock, **more: Any) -> Exit:
    """The code that the program refuses it with; DONE where it does not."""
    try:
        verifying.verify(bundle, site, clock, **more)
    except BundleRefused as refused:
        return refused.exit
    return Exit.DONE
