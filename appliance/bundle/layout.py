"""Where things lie: inside a bundle, and on a host. Names only; nothing here reads or writes.

A bundle is a folder (the format's number stands in its manifest):

    README.txt SHA256SUMS SHA256SUMS.<keyid>.{ed25519,p384}.sig   what a person checks with openssl
    verify.sh ed25519_verify.py install.sh                        small enough to be read
    keys/<keyid>.{ed25519,p384}.pem                               the signers' public keys
    metadata/{N.root,N.targets,N.snapshot,timestamp}.json         The Update Framework's view of the same
    manifest.json sbom.cdx.json RELEASE-NOTES.md
    lock/requirements.txt wheels/*.whl                            Python packages, by hash
    app/{appliance,migrations,models,deploy}/…                    this project, as plain files
    licences/… os/…
    blobs/sha256/ab/<digest>[.pNNNN]                              models, whole or in parts of 256 MiB
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PART_BYTES: Final = 256 * 1024 * 1024

MANIFEST: Final = "manifest.json"
SUMS: Final = "SHA256SUMS"
METADATA: Final = "metadata"
KEYS: Final = "keys"
WHEELS: Final = "wheels"
LOCK: Final = "lock/requirements.txt"
APP: Final = "app"
BLOBS: Final = "blobs/sha256"
SBOM: Final = "sbom.cdx.json"

MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
MAX_SUMS_BYTES: Final = 16 * 1024 * 1024
MAX_METADATA_BYTES: Final = 4 * 1024 * 1024
MAX_PATH_CHARACTERS: Final = 240

# Relative, plain ASCII, no component that begins with a dot or a dash.
PATH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+@-]*)*")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# What the signers' keys sign online with each signature, and so stands in no list of digests.
UNLISTED: Final = re.compile(
    r"SHA256SUMS(\.[0-9a-f]{16}\.(ed25519|p384)\.sig)?|metadata/([0-9]+\.(targets|snapshot)|timestamp)\.json"
)


def is_path(text: str) -> bool:
    """Whether a name may stand in a bundle."""
    return len(text) <= MAX_PATH_CHARACTERS and PATH.fullmatch(text) is not None


def blob_path(sha256: str, part: int | None = None) -> str:
    """A blob's place in a bundle and in the store; its n-th part where it is cut."""
    name = f"{BLOBS}/{sha256[:2]}/{sha256}"
    return name if part is None else f"{name}.p{part:04d}"


def stored(store: Path, sha256: str) -> Path:
    """Where content of this digest lies in a host's store, or would."""
    return store / "sha256" / sha256[:2] / sha256


@dataclass(frozen=True, slots=True)
class Site:
    """The places on one host. `root` is `/` but in tests. Root owns all but `home`."""

    root: Path = Path("/")

    @property
    def releases(self) -> Path:
        """`<serial>-<release>/{app,venv,bin/appliance,manifest.json,SHA256SUMS,.complete}`."""
        return self.root / "opt/appliance/releases"

    @property
    def current(self) -> Path:
        """A link to the release that serves; replaced by one rename."""
        return self.root / "opt/appliance/current"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/appliance"

    @property
    def home(self) -> Path:
        """The appliance's home: configuration, database, keys. The service's user owns it."""
        return self.state / "home"

    @property
    def store(self) -> Path:
        """`sha256/ab/<digest>`: wheels and models of the releases that are kept."""
        return self.state / "store"

    @property
    def trust(self) -> Path:
        """What was believed before: roots, versions, the highest serial, the clock's floor."""
        return self.state / "trust"

    @property
    def receipts(self) -> Path:
        return self.state / "receipts"

    @property
    def staging(self) -> Path:
        """`<serial>/`: a medium's copy, verified and installed from here."""
        return self.state / "staging"

    @property
    def backups(self) -> Path:
        """The home as it was before each upgrade."""
        return self.state / "backups"

    @property
    def journal(self) -> Path:
        """The installer's steps, one line of JSON each."""
        return self.state / "install.jsonl"

    @property
    def lock(self) -> Path:
        return self.state / "install.lock"

    @property
    def run(self) -> Path:
        return self.root / "run/appliance"

    def release(self, serial: int, release: str) -> Path:
        """One release's folder, at its final path: nothing in it is ever moved."""
        return self.releases / f"{serial}-{release}"
