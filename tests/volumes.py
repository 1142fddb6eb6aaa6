"""Media for tests: bundles cut small, and folders that look like sticks and discs."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from appliance.bundle import folder, media
from appliance.bundle.media import Media
from tests import bundles

DISC = Media("disc", None, block_bytes=512, overhead_bytes=1000)
PARTS = 16
PART_COST = 4096 + 400


def model(seed: int = 0, size: int = PARTS * bundles.PART_BYTES - 100) -> bytes:
    """Bytes that no two seeds share: sixteen parts of a tiny bundle, the last one shorter."""
    found = b"".join(hashlib.sha256(f"{seed} {each}".encode()).digest() for each in range(-(-size // 32)))
    return found[:size]


def signed(place: Path, **options: object) -> Path:
    """A tiny bundle with files where a signer's signatures and metadata lie; their bytes mean nothing."""
    made = bundles.tiny(place, **{"model": model(), **options})  # type: ignore[arg-type]
    (made / "metadata").mkdir()
    (made / "metadata" / "1.root.json").write_bytes(b'{"root": 1}\n')
    folder.seal(made)
    for name in ("1.targets", "1.snapshot", "timestamp"):
        (made / "metadata" / f"{name}.json").write_bytes(f'"{name} of {place.name}"\n'.encode())
    for kind in ("ed25519", "p384"):
        (made / f"SHA256SUMS.0123456789abcdef.{kind}.sig").write_bytes(kind.encode())
    return made


def discs(made: Path, out: Path, *, parts: int = 1) -> list[Path]:
    """Four volumes: the first has room for one part of the model, beside all that can refuse."""
    room = room_for(made, DISC) + (parts - 1) * PART_COST
    return media.split(made, out, DISC, payload_bytes=room)


def room_for(made: Path, medium: Media = media.PRESETS["none"]) -> int:
    """Bytes of a medium that takes all that can refuse, and one part."""
    core = media._plan(
        {path: len(data) for path, data in files(made).items() if not path.startswith("blobs/")}, medium
    )
    return medium.overhead_bytes + media._cost(core[0], medium) + PART_COST


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(root: Path) -> dict[str, bytes]:
    """Every file's bytes by path."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def burn(volume: Path, disc: Path) -> Path:
    """A copy of a volume, so that a test may harm it."""
    return Path(shutil.copytree(volume, disc / volume.name))
