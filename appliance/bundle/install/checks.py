"""What others decide about a bundle and a host, as the installer needs it: trust, the store, preflight.

A value with functions, so that the installer's own steps are tested by themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.refusals import BundleRefused, Exit


class Verified(Protocol):
    """A staged bundle that was read to its last byte."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def key_ids(self) -> Sequence[str]: ...

    @property
    def sums_sha256(self) -> str: ...

    @property
    def num_files(self) -> int: ...


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
    collect: Callable[[Site, int], None]  # the staged copy of a serial, and what no release needs, leave
    receipt: Callable[[Site, Verified, str, str], None]  # (…, what, who)

    @staticmethod
    def read(path: Path, most: int) -> bytes:
        """A small file that somebody else made. BundleRefused: 14 where it is missing, 11 where it is too large."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise BundleRefused(Exit.MISSING, f"{path} can not be read: {error.strerror}") from error
        with os.fdopen(fd, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise BundleRefused(Exit.BAD_METADATA, f"{path} is too large")
        return data
