"""A copy of the home while nobody serves, and the way back. Runs as the service's user, with Python's library
only.

    python -I -m appliance.bundle.install.homecopy take HOME COPY
    python -I -m appliance.bundle.install.homecopy put-back HOME COPY FAILED
    python -I -m appliance.bundle.install.homecopy thin FOLDER
    python -I -m appliance.bundle.install.homecopy link HOME STORE DIGEST…

Databases are copied by SQLite's backup interface and held against themselves, everything else byte by byte;
the list of digests (`copy.json`) is written last. Models, backups and archives are not copied: no release
changes them. What stands in the home when the copy is put back is moved to FAILED first, so nothing is lost.
Secrets leave both (`thin`) as soon as nothing depends on them: a share that lives on here would survive its
erasure.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance import durable
from appliance.bundle import layout

LIST: Final = "copy.json"
_MOVED: Final = "moved"  # in COPY: the home was cleared, what stands there now came from the copy
_LEFT: Final = frozenset({"models", "backups", "archive", "tuning"})
_RUNTIME: Final = ("control.sock", "serve.log")
_SIDE_FILES: Final = ("-wal", "-shm", "-journal")
_DATABASE: Final = b"SQLite format 3\0"


def take(home: Path, copy: Path) -> None:
    """Copy the home. What an interrupted run left of a copy is replaced."""
    files = copy / "files"
    for stale in (copy / LIST, copy / _MOVED):
        stale.unlink(missing_ok=True)
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(mode=0o700)
    listed: dict[str, dict[str, str | int]] = {}
    for path in _files(home):
        name = str(path.relative_to(home))
        target = files / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_database(path):
            _copy_database(path, target)
        else:
            shutil.copyfile(path, target, follow_symlinks=False)
            if _digest(path) != _digest(target):
                raise OSError(f"{target} is not what was copied")
        mode = stat.S_IMODE(path.stat().st_mode)
        target.chmod(mode)
        _sync(target)
        listed[name] = {"sha256": _digest(target), "mode": mode}
    for folder in [each for each in files.rglob("*") if each.is_dir()] + [files]:
        _sync(folder)
    durable.write_file(copy / LIST, json.dumps(listed, sort_keys=True).encode())


def put_back(home: Path, copy: Path, failed: Path) -> None:
    """Make the home what it was. What stands there moves to `failed`. Can be interrupted and done again."""
    listed = json.loads((copy / LIST).read_text(encoding="utf-8"))
    for name, about in listed.items():
        if _digest(copy / "files" / name) != about["sha256"]:
            raise OSError(f"the copy of {name} is damaged: nothing was changed")
    if not (copy / _MOVED).exists():
        failed.mkdir(mode=0o700, exist_ok=True)
        for entry in _entries(home):
            entry.replace(failed / entry.name)
        _sync(failed)
        _sync(home)
        durable.write_file(copy / _MOVED, b"")
    for entry in _entries(home):  # of an interrupted run: they came from the copy
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for name, about in listed.items():
        target = home / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(copy / "files" / name, target)
        target.chmod(int(about["mode"]))
        if _digest(target) != about["sha256"]:
            raise OSError(f"{target} is not what was copied")
        _sync(target)
    for folder in {(home / name).parent for name in listed} | {home}:
        _sync(folder)


def discarded(failed: Path) -> dict[str, str | int]:
    """Size and root of the log that was moved aside, as its head file remembers them; empty where it has
    none.
    """
    try:
        lines = (failed / "head").read_text(encoding="utf-8").splitlines()
        return {"discarded_size": int(lines[1]), "discarded_root": lines[2]}
    except (FileNotFoundError, IndexError, ValueError):
        return {}


def thin(folder: Path) -> None:
    """Destroy what opens or signs anything: shares and keys. The record itself, its head and public keys
    stay.
    """
    for path in [each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()]:
        is_secret = path.parent.name == "keys" and path.suffix != ".vkey"
        if is_secret or path.name.startswith("shares.db"):
            durable.destroy(path)
            durable.fsync_dir(path.parent)


def link(home: Path, store: Path, digests: list[str]) -> None:
    """Models into the home by a symbolic link: the store is root's, and read only for us."""
    for digest in digests:
        target = home / "models/sha256" / digest[:2] / digest
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not target.exists():
            target.unlink(missing_ok=True)  # a link to what is gone
            target.symlink_to(layout.stored(store, digest))
            _sync(target.parent)


def _alone(home: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the home's lock, as every writer does. OSError where somebody has it."""
    return durable.locked(home / "lock", OSError(f"a program works in {home}"))


def _entries(home: Path) -> list[Path]:
    return [each for each in sorted(home.iterdir()) if each.name not in _LEFT]


def _files(home: Path) -> Iterator[Path]:
    for entry in _entries(home):
        for path in [entry, *sorted(entry.rglob("*"))] if entry.is_dir() else [entry]:
            is_plain = stat.S_ISREG(path.lstat().st_mode)
            if is_plain and path.name not in _RUNTIME and not path.name.endswith(_SIDE_FILES):
                yield path


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_DATABASE)) == _DATABASE


def _copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as live,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
        if copy.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise OSError(f"{target} is not whole")
        copy.execute("PRAGMA journal_mode=DELETE").fetchone()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def main(words: list[str]) -> None:
    """Take, put back, or link; the last line of standard error says what went wrong."""
    os.umask(0o077)
    try:
        match words:
            case ["take", home, copy]:
                with _alone(Path(home)):
                    take(Path(home), Path(copy))
            case ["put-back", home, copy, failed]:
                with _alone(Path(home)):
                    put_back(Path(home), Path(copy), Path(failed))
                print(json.dumps(discarded(Path(failed))))  # noqa: T201 - the installer reads it
            case ["thin", folder]:
                thin(Path(folder))
            case ["link", home, store, *digests]:
                link(Path(home), Path(store), digests)
            case _:
                sys.exit(
                    "usage: take HOME COPY | put-back HOME COPY FAILED | thin FOLDER | link HOME STORE …"
                )
    except (OSError, ValueError, sqlite3.Error) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
