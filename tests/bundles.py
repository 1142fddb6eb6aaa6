"""Bundles for tests: a tiny one of made-up content, for tables of attacks, and a real one of this tree."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from appliance.bundle import blobs, building, folder, hashing, layout, manifest, sums
from appliance.bundle.refusals import BundleRefused
from tests.starter import cache_dir

ROOT = Path(__file__).resolve().parent.parent

BUILT = "2026-11-21T12:00:00Z"
BUILT_SECONDS = 1_795_262_400
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY_WHEEL = "wheels/tiny-1.0-py3-none-any.whl"
LICENCE = "licences/models/tiny.txt"
PART_BYTES = 4096
REAL_PART_BYTES = 32 * 1024 * 1024  # the starter model has three parts
_KEPT_SECONDS = 6 * 3600
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
    return wheel(TINY_WHEEL.partition("/")[2])


def wheel(file_name: str, extra: Mapping[str, bytes] | None = None, licence: str = "MIT") -> bytes:
    """The bytes of a wheel of this name; the same bytes each time."""
    name, version, tag = file_name.removesuffix(".whl").split("-", 2)
    info = f"{name}-{version}.dist-info"
    terms = f"License-Expression: {licence}\n" if licence else ""
    about = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    entries = {
        f"{name}.py": b"",
        **(extra or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{terms}".encode(),
        f"{info}/WHEEL": about.encode(),
    }
    if licence:
        entries[f"{info}/licenses/LICENSE"] = f"{licence}\n".encode()
    entries[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*entries, f"{info}/RECORD"]).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, data in entries.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return made.getvalue()


@functools.cache
def built(serial: int = 1, release: str = "1.0.0", pythons: Sequence[str] = ()) -> Path:
    """An unsigned bundle of this tree as it lies here, with the starter model; made once, then in the cache.

    Wheels are for `pythons`; without them for the running Python, 3.11 and 3.13. Read it, never write into
    it: `derived` gives one to alter. It needs what `make wheelhouse` fetches.
    """
    wanted = sorted({*pythons} or _pythons())
    given = _prepared()
    key = _key(given, serial, release, wanted)
    place = cache_dir() / "bundles" / key
    with _alone(place.with_suffix(".lock")):
        found = next(place.glob("appliance-*"), None)
        if found is None or not _is_whole(found):
            shutil.rmtree(place, ignore_errors=True)
            _prune(place.parent)
            found = _build(place, given, serial, release, wanted)
        os.utime(place)
    return found


def again(place: Path) -> Path:
    """What `built()` gives, built once more, in the folder `place`."""
    return _build(place, _prepared(), 1, "1.0.0", sorted(_pythons()))


def derived(
    bundle: Path,
    place: Path,
    *,
    serial: int,
    release: str = "1.0.1",
    files: Mapping[str, bytes] | None = None,
    without: Sequence[str] = (),
    upgrade_from: manifest.UpgradeFrom | None = None,
) -> Path:
    """Another release out of one, at `place` (made here): unchanged files are linked, so it takes a second.

    `files`: those that it has besides, or in place of the same path. `without`: paths it has not.
    """
    for path in folder.paths(bundle):
        if path.split("/")[0] in {layout.KEYS, layout.METADATA} or layout.UNLISTED.fullmatch(path):
            continue  # whoever signs this one brings their own
        if path == layout.MANIFEST or path in without or path in (files or {}):
            continue
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        _link(bundle / path, place / path)
    for path, data in (files or {}).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
        (place / path).chmod((bundle / path).stat().st_mode if (bundle / path).exists() else folder.PLAIN)
    before = manifest.parse((bundle / layout.MANIFEST).read_bytes())
    after = msgspec.structs.replace(
        before,
        serial=serial,
        release=release,
        files=folder.describe_all(place),
        upgrade_from=upgrade_from or before.upgrade_from,
    )
    folder.write_manifest(place, after)
    folder.seal(place)
    return place


def _pythons() -> set[str]:
    return {f"3.{sys.version_info.minor}", "3.11", "3.13"}


def _build(place: Path, given: Mapping[str, Path], serial: int, release: str, pythons: Sequence[str]) -> Path:
    """From a clean clone of its own: the commit is that of the files, whoever built it and when."""
    tree = place / "tree"
    _commit(tree)
    model = building.GivenModel(given["model"], given["licence"])
    inputs = building.Inputs(
        out=place,
        serial=serial,
        release=release,
        wheels=given["wheels"],
        llama=given["llama"],
        tree=tree,
        models=[model],
        pythons=pythons,
        tools=[name for name in building.TOOLS if (ROOT / "deploy" / name).is_file()],
        part_bytes=REAL_PART_BYTES,
    )
    found = building.build(inputs)
    shutil.rmtree(tree)
    return found


def _commit(tree: Path) -> None:
    """The files of this checkout, new ones too, as one commit of a fixed time in a repository at `tree`."""
    for path in _files():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tree / path)
    moment = f"{BUILT_SECONDS} +0000"
    identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_AUTHOR_DATE": moment}
    identity |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t", "GIT_COMMITTER_DATE": moment}
    for command in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=tree, env={**os.environ, **identity}, check=True)


def _files() -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        [*command, "appliance", "migrations", "models", "deploy"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return sorted({path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()})


@functools.cache
def _prepared() -> Mapping[str, Path]:
    """What `make wheelhouse` put into the cache."""
    script = ROOT / "deploy" / "bootstrap" / "bundle.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, check=False, text=True)
    assert done.returncode == 0, f"run make wheelhouse once:\n{done.stdout}{done.stderr}"
    return {name: Path(path) for name, path in re.findall(r"^  (\w+): (/.+)$", done.stdout, re.MULTILINE)}


def _key(given: Mapping[str, Path], serial: int, release: str, pythons: Sequence[str]) -> str:
    content = hashlib.sha256(repr((serial, release, pythons, sorted(map(str, given.values())))).encode())
    for path in _files():
        mode = (ROOT / path).stat().st_mode & 0o100
        content.update(f"{path} {mode} {hashing.digest(ROOT / path)[0]}\n".encode())
    return content.hexdigest()[:24]


def _is_whole(bundle: Path) -> bool:
    """Nobody wrote into it."""
    try:
        listed = sums.parse((bundle / layout.SUMS).read_bytes())
        found = set(folder.paths(bundle)) - {layout.SUMS}
    except (OSError, BundleRefused):
        return False
    return found == set(listed) and all(hashing.digest(bundle / path)[0] == listed[path] for path in listed)


def _prune(parent: Path) -> None:
    """Each state of the tree has a bundle of its own: those that nobody asked for lately go."""
    for each in parent.glob("*/"):
        if time.time() - each.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(each, ignore_errors=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
