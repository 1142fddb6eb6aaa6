"""Sealed homes for tests: what opens them, and what must not be found on their disks."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from appliance import durable, keyring
from appliance.cli.init import initialise
from appliance.config import Home
from appliance.resealing import NewWay
from appliance.unlocking import Unlocking
from tests.starter import link_into

PASSPHRASE = "correct horse battery staple"
CREDENTIAL = "apphome1-" + "0f" * 32
OTHER = "apphome1-" + "1e" * 32


def opened_by(root: Path, secret: str | None) -> Home:
    """The home as a process sees it that was given this secret, or nothing."""
    unlocking = Unlocking()
    if secret is not None:
        unlocking.given = lambda: secret
    return Home(root, unlocking)


def make_sealed(root: Path, secret: str, *, toml: str = "") -> Home:
    """An initialised dev home whose secrets never lay in the clear. The recovery key waits for its safe."""
    home = opened_by(root, secret)
    if toml:
        durable.make_private_dir(root)
        home.config.write_text(toml, encoding="utf-8")
    initialise(home, profile="dev", way=NewWay(secret, fips='profile = "fips"' in toml))
    link_into(home)
    return home


def secrets_of(home: Home) -> dict[str, bytes]:
    """Every secret of a home, by its name."""
    return {
        keyring.name_of(home, each) or "": keyring.read(home, each) for each in keyring.secret_files(home)
    }


def forms(secret: bytes) -> Iterator[bytes]:
    """As a secret may have slipped onto a disk: as it is, as text, or the words of an identity's line."""
    yield secret
    yield secret.hex().encode()
    yield base64.b64encode(secret)
    yield from (line for line in secret.splitlines() if len(line) >= 32)


def found_on(root: Path, secrets: Mapping[str, bytes]) -> set[str]:
    """Names of the secrets that some file below a folder holds, whole."""
    wanted = {name: list(forms(secret)) for name, secret in secrets.items()}
    found = set()
    for path in files_of(root):
        data = path.read_bytes()
        found |= {name for name, texts in wanted.items() if any(each in data for each in texts)}
    return found


def files_of(root: Path) -> list[Path]:
    """What a home holds, but for models and what only takes up room."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in {"models", "ballast"}
    ]


def inventory() -> dict[str, str]:
    """The guide's table: patterns of files, and whether they lie sealed."""
    text = (Path(__file__).parent.parent / "deploy/guides/secrets.md").read_text()
    table = text.partition("<!-- inventory -->")[2].partition("<!-- /inventory -->")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", table, re.MULTILINE))
