"""Bundles for tests: a tiny one of made-up content, for tables of attacks, and a real one of this tree."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from appliance.bundle import blobs, folder, layout, manifest

BUILT = "2026-11-21T12:00:00Z"
BUILT_SECONDS = 1_795_262_400
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY_WHEEL = "wheels/tiny-1.0-py3-none-any.whl"
LICENCE = "licences/models/tiny.txt"
PART_BYTES = 4096
TINY_FILES = {
    "README.txt": b"a bundle for tests\n",
    "RELEASE-NOTES.md": b"# nothing new\n",
    "sbom.cdx.json": b"{}\n",
    "app/appliance/__init__.py": b'"""The appliance."""\n',
    "app/appliance/cli/__main__.py": b"print('tiny')\n",
    "app/deploy/guides/bundles.md": b"# Bundles\n",
    "app/models/tiny.toml": b'id = "tiny"\n',
    LICENCE: b"Do as you please.\n",
}
TINY_PROGRAMS = {
    "verify.sh": b"#!/bin/sh\nexit 0\n",
    "install.sh": b"#!/bin/sh\nexit 0\n",
    "ed25519_verify.py": b"raise SystemExit(0)\n",
}


def tiny(
    place: Path,
    *,
    serial: int = 1,
    release: str = "1.0.0",
    built: str = BUILT,
    model: bytes | None = None,
    files: Mapping[str, bytes] | None = None,
    platform: manifest.Platform | None = None,
    upgrade_from: manifest.UpgradeFrom | None = None,
) -> Path:
    """A well-formed unsigned bundle at `place` (made here): 14 files, and one model in three parts of 4 KiB.

    `model`: its bytes, if the usual ones are not wanted; at most one part gives a whole blob. `files`: more
    files, or others at the same paths. Two serials share every wheel, and the model where none is given.
    """
    place.mkdir(parents=True)
    content = {**TINY_FILES, TINY_WHEEL: tiny_wheel(), **(files or {})}
    wheel = hashlib.sha256(content[TINY_WHEEL]).hexdigest()
    content.setdefault(layout.LOCK, f"tiny==1.0 \\\n    --hash=sha256:{wheel}\n".encode())
    content.setdefault("app/serial.txt", f"{serial}\n".encode())  # each release has a file of its own
    for path, data in {**content, **TINY_PROGRAMS}.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
        (place / path).chmod(folder.PROGRAM if path in TINY_PROGRAMS else folder.PLAIN)
    source = place.with_name(f"{place.name}.gguf")
    source.write_bytes(model if model is not None else tiny_model())
    cut = blobs.cut(source, place, part_bytes=PART_BYTES)
    source.unlink()
    size = sum((place / path).stat().st_size for path in folder.paths(place))
    folder.write_manifest(
        place,
        manifest.Manifest(
            format=manifest.FORMAT,
            product="appliance",
            release=release,
            serial=serial,
            built=built,
            git_commit=COMMIT,
            platform=platform or manifest.Platform(),
            upgrade_from=upgrade_from or manifest.UpgradeFrom(),
            db=manifest.Database(alembic_head="0001", reads_since="0001"),
            needs=manifest.Needs(disk_bytes=size, disk_peak_bytes=2 * size, ram_bytes=1 << 20),
            kind="full",
            files=folder.describe_all(place),
            blobs=(
                manifest.Blob(
                    sha256=cut.sha256,
                    size=cut.size,
                    name="tiny.gguf",
                    part_size=cut.part_size,
                    parts=cut.parts,
                    model=manifest.Model(
                        id="tiny",
                        quant="Q4_1",
                        arch="llama",
                        licence="LicenseRef-tiny",
                        licence_file=LICENCE,
                        source="made up",
                        ram_bytes=1 << 20,
                    ),
                ),
            ),
        ),
    )
    folder.seal(place)
    return place


def tiny_model() -> bytes:
    """10,000 bytes: three parts of 4 KiB, the last one shorter."""
    return (
        b"GGUF"
        + b"".join(hashlib.sha256(bytes([number])).digest() for number in range(256))[:8192]
        + bytes(1804)
    )


def tiny_wheel() -> bytes:
    """A wheel that pip takes: one module, its metadata, the same bytes each time."""
    info = "tiny-1.0.dist-info"
    entries = {
        "tiny.py": b"",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nLicense-Expression: MIT\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/licenses/LICENSE": b"MIT\n",
    }
    entries[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*entries, f"{info}/RECORD"]).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return made.getvalue()
