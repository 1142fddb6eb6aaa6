"""What others decide about a bundle and a host, as the installer needs it: trust, the store, preflight.

A value with functions, so that the installer's own steps are tested by themselves.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from appliance.bundle import notes, receipts, store, trusted, verifying
from appliance.bundle.install import hosts
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.trusted import Verified
from appliance.clock import Clock

_WORDS: Final = {"install": "installed", "upgrade": "upgraded", "rollback": "rolled_back"}  # on receipts


class Verify(Protocol):
    """Hold a staged bundle against what this host trusts. BundleRefused says what is wrong."""

    def __call__(self, staged: Path, site: Site, *, allow_downgrade: bool) -> Verified: ...


@dataclass(frozen=True, slots=True)
class Checks:
    """The installer's neighbours."""

    verify: Verify
    accept: Callable[[Site, Verified], None]  # durable: what is believed from now on
    preflight: Callable[[Manifest, Site, Path | None], None]  # BundleRefused: 20, 21, 22
    adopt: Callable[[Site, Path, Manifest], None]  # models and wheels into the store
    collect: Callable[[Site, str], None]  # a folder of `staging`, and what no release needs, leave
    receipt: Callable[[Site, Verified, str, str], None]  # (…, what, who)


def standard(
    clock: Clock, *, fingerprints: Sequence[str] = (), progress: Callable[[int, int], None] | None = None
) -> Checks:
    """The real ones. `fingerprints`: from paper, for a host that believes nobody yet."""

    def verify(staged: Path, site: Site, *, allow_downgrade: bool) -> Verified:
        held = {digest: store.place(site, digest) for digest in store.held(site)}
        return verifying.verify(
            staged,
            site,
            clock,
            fingerprints=fingerprints,
            progress=progress,
            allow_downgrade=allow_downgrade,
            present=held,
        )

    def collect(site: Site, staged: str) -> None:
        if staged.isdecimal():
            notes.discard(site, int(staged))
        elif staged:
            shutil.rmtree(site.staging / staged, ignore_errors=True)
        store.collect(site)

    return Checks(
        verify=verify,
        accept=lambda site, found: _ignore(trusted.accept(site, found, clock.now_us())),
        preflight=hosts.check,
        adopt=store.adopt,
        collect=collect,
        receipt=lambda site, found, what, who: _ignore(
            receipts.write(site, found, _WORDS[what], who, clock.now_us())
        ),
    )


def _ignore(_result: object) -> None:
    """What is wanted is what was done."""
