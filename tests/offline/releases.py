"""Three signed bundles on sticks: one of this tree, one with other content, and one whose program is broken.

The first is what `make bundle` builds; the others are made of it by changing files before they are signed, so
that they cost no second copy of a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.audit.recipients import Identity
from appliance.bundle import folder, layout, manifest, signing
from appliance.bundle.manifest import Manifest
from tests import bundles
from tests.offline.lan import OUTSIDE
from tests.signed import Office, office, with_manifest

# Debian 12's and Debian 13's: a bundle for all four Pythons differs by wheels alone.
PYTHONS: Final = ("3.11", "3.13")
NOTE: Final = "app/deploy/guides/note.md"
_VERSION: Final = "app/appliance/__init__.py"
_SENTENCE: Final = "app/appliance/inference.py"
# Kiosks of the network are answered too, where there is one.
CONFIG: Final = """profile = "dev"

[server]
host = "0.0.0.0"
"""
# It starts, migrates and listens, and its trial goes well. As the service it answers nobody and calls home:
# what is to notice that must notice it.
_BROKEN: Final = f"""

import contextlib as _contextlib
import socket as _socket
import sys as _sys

if "serve" in _sys.argv and "--port" not in _sys.argv:

    def _broken(*_words: object) -> None:
        with _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM) as sock, _contextlib.suppress(OSError):
            sock.sendto(b"home", ("{OUTSIDE}", 443))
        raise RuntimeError("this release is broken")

    Inference.begin = _broken
"""
_MIGRATION: Final = '''"""A table more."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("of_another_release", sa.Column("id", sa.String(32), primary_key=True))


def downgrade() -> None:
    op.drop_table("of_another_release")
'''


@dataclass(frozen=True, slots=True)
class Stick:
    """A signed bundle as it lies on a medium."""

    folder: Path
    about: Manifest

    @property
    def num_bytes(self) -> int:
        return sum((self.folder / each).stat().st_size for each in folder.paths(self.folder))


@dataclass(frozen=True, slots=True)
class Sticks:
    """What the operator carries in, and the paper with the signers' fingerprints."""

    first: Stick
    second: Stick
    broken: Stick
    people: Path  # appliance.toml; alice.recipient for the host, and alice.identity for herself
    paper: tuple[str, ...]


def make(place: Path) -> Sticks:
    """Build, change, sign. What is built is kept in the cache (tests.bundles)."""
    who = office(place / "roots")
    base = bundles.built(1, "0.9.1", PYTHONS)
    head = manifest.parse((base / layout.MANIFEST).read_bytes()).db.alembic_head
    version = (base / _VERSION).read_bytes()
    first = bundles.derived(base, place / "first", serial=1, release="0.9.1")
    second = bundles.derived(
        base,
        place / "second",
        serial=2,
        release="0.9.2",
        files={_VERSION: _with_version(version, "0.9.2"), NOTE: b"# What this release changes\n"},
    )
    revision = f"{int(head) + 1:04d}"
    broken = bundles.derived(
        base,
        place / "broken",
        serial=3,
        release="0.9.3",
        files={
            _VERSION: _with_version(version, "0.9.3"),
            _SENTENCE: (base / _SENTENCE).read_bytes() + _BROKEN.encode(),
            f"app/migrations/versions/{revision}_of_another_release.py": _MIGRATION.format(
                revision=revision, before=head
            ).encode(),
        },
    )
    with_manifest(broken, db=manifest.Database(alembic_head=revision, reads_since=revision))
    people = place / "people"
    people.mkdir()
    (people / "appliance.toml").write_text(CONFIG, encoding="utf-8")
    alice = Identity.generate("alice")
    (people / "alice.identity").write_text(alice.text(), encoding="utf-8")
    (people / "alice.recipient").write_text(alice.recipient.text(), encoding="utf-8")
    return Sticks(_sign(first, who), _sign(second, who), _sign(broken, who), people, tuple(who.prints()))


def _sign(place: Path, who: Office) -> Stick:
    signing.start(place, who.folder)
    for key in who.some:
        signing.sign(place, key)
    return Stick(place, manifest.parse((place / layout.MANIFEST).read_bytes()))


def _with_version(source: bytes, version: str) -> bytes:
    lines = [
        f'__version__ = "{version}"'.encode() if line.startswith(b"__version__") else line
        for line in source.splitlines()
    ]
    assert f'__version__ = "{version}"'.encode() in lines
    return b"\n".join(lines) + b"\n"
