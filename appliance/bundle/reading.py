"""Reading what others made: a medium's folders and files, without following it anywhere.

Folders are opened one inside the other (`openat`, no links), so that nothing that changes meanwhile leads out
of the medium. Every file is a regular one, is read once, and is hashed while it is read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.bundle import layout
from appliance.bundle.meter import Told
from appliance.bundle.refusals import BundleRefused, Exit

MAX_FILES: Final = 200_000
MAX_DEPTH: Final = 32
CHUNK_BYTES: Final = 1024 * 1024  # stays in the processor's cache between reading and hashing
TRY_AGAIN: Final = (
    "clean the medium or try another drive, then run the same command again: what was copied is kept"
)

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO that somebody put there must not make us wait for its writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Hashed:
    """What was read: its SHA-256, and how many bytes."""

    sha256: str
    size: int


def list_files(root: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by path. BundleRefused (16) for what no bundle holds.

    Links, devices, FIFOs, hostile names, and names that differ by case only are refused by name. OSError
    where a folder can not be read.
    """
    found: dict[str, int] = {}
    folded: dict[str, str] = {}
    with _folder(root) as top:
        for path, size in _walk(top, "", 0):
            if (other := folded.setdefault(path.casefold(), path)) != path:
                raise _bad(f"{other} and {path} differ by case only: a FAT medium holds one of them")
            if size is not None:
                found[path] = size
            if len(folded) > MAX_FILES:
                raise _bad(f"over {MAX_FILES} files")
    return found


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Reads what somebody gave us. BundleRefused: 14 where it is not there, 22 where it can not be read."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleRefused(Exit.MISSING, f"{error.filename or path} is not there") from error
    except OSError as error:
        raise BundleRefused(
            Exit.DISK,
            f"{path} can not be read: {error.strerror}",
            hint=TRY_AGAIN,
        ) from error


@contextmanager
def opened(root: Path, path: str) -> Iterator[tuple[int, int]]:
    """(descriptor, bytes) of a file below a folder. OSError where it is not there or can not be read."""
    parts = path.split("/")
    held = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        for part in parts[:-1]:
            held.append(os.open(part, _FOLDER, dir_fd=held[-1]))
        held.append(os.open(parts[-1], _FILE, dir_fd=held[-1]))
        status = os.fstat(held[-1])
        if not stat.S_ISREG(status.st_mode):
            raise _bad(f"{path} is no plain file")
        yield held[-1], status.st_size
    finally:
        for each in reversed(held):
            os.close(each)


def read_small(root: Path, path: str, limit: int) -> bytes:
    """A small file's bytes. BundleRefused (16) beyond `limit`; OSError where it can not be read."""
    with opened(root, path) as (fd, _size):
        found = b""
        while len(found) <= limit and (chunk := os.read(fd, limit + 1 - len(found))):
            found += chunk
    if len(found) > limit:
        raise _bad(f"{path} has over {limit} bytes")
    return found


def hash_file(root: Path, path: str, told: Told | None = None) -> Hashed:
    """Read a file once. OSError where it can not be read."""
    return hash_all(root, (path,), told)


def hash_all(
    root: Path,
    paths: Iterable[str],
    told: Told | None = None,
    *,
    to: Callable[[memoryview], None] | None = None,
) -> Hashed:
    """Read files one behind the other as one content, handing each chunk on. OSError as `opened`."""
    hasher = hashlib.sha256()
    done = 0
    for path in paths:
        with opened(root, path) as (fd, _size):
            for chunk in chunks(fd):
                hasher.update(chunk)
                if to is not None:
                    to(chunk)
                done += len(chunk)
                if told is not None:
                    told(len(chunk))
    return Hashed(hasher.hexdigest(), done)


def digest_of(data: bytes) -> str:
    """SHA-256 of bytes that were read already."""
    return hashlib.sha256(data).hexdigest()


def chunks(fd: int) -> Iterator[memoryview]:
    """A file's bytes from where it stands. Each chunk is valid until the next one."""
    view = memoryview(bytearray(CHUNK_BYTES))
    while count := os.readv(fd, [view]):
        yield view[:count]


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _walk(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, int | None]]:
    """(path, bytes) of files, (path, None) of folders."""
    if depth > MAX_DEPTH:
        raise _bad(f"folders lie over {MAX_DEPTH} deep")
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda each: each.name)
    for each in listed:
        path = prefix + each.name
        if not layout.is_path(path):
            raise _bad(f"a name that no bundle has: {path[:160]!r}")
        status = each.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            yield path, None
            inner = os.open(each.name, _FOLDER, dir_fd=folder)
            try:
                yield from _walk(inner, path + "/", depth + 1)
            finally:
                os.close(inner)
        elif stat.S_ISREG(status.st_mode):
            yield path, status.st_size
        else:
            raise _bad(f"{path} is no plain file: links, devices and the like are not taken")


def _bad(message: str) -> BundleRefused:
    return BundleRefused(Exit.WRONG_DIGEST, message)
