"""Files that survive a power cut, and files that only their owner reads.

The sequence for a replacement is: write a temporary file in the same directory, fsync it, rename it
over the target, fsync the directory. A crash before the rename leaves the old file; after the
directory's fsync the new one is there for good.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700
PUBLIC_DIR = 0o755
_OLD = ".old"


def fsync_dir(path: Path) -> None:
    """Make renames and creations inside `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_private_dir(path: Path) -> None:
    """Create `path` (and parents) for its owner only, durably; existing directories keep their mode."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
    for each in missing:
        fsync_dir(each.parent)


def make_public_dir(path: Path) -> None:
    """Create `path` (and parents) for everybody to read and its owner to change, whatever the umask says,
    durably; existing directories keep their mode.
    """
    if path.exists():
        return
    make_public_dir(path.parent)
    path.mkdir()
    path.chmod(PUBLIC_DIR)
    fsync_dir(path.parent)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """All of it, however often the kernel wants to be asked."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def locked(path: Path, busy: Exception) -> Iterator[None]:
    """Hold the lock of a file, made where it is not there. `busy` is raised where somebody has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        yield
    finally:
        os.close(fd)


def write_file(path: Path, data: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Replace `path` atomically and durably. OSError tells of a full or failing disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    fsync_dir(path.parent)


def exchange(path: Path, data: bytes) -> None:
    """`write_file` in the place of a secret: what stood there is overwritten, too.

    A crash leaves the old file or the new one, and perhaps the old one beside it (`.NAME.old`): `sweep`.
    """
    if not path.exists():
        write_file(path, data)
        return
    old = path.with_name(f".{path.name}{_OLD}")
    _end(old, path)
    old.hardlink_to(path)
    write_file(path, data)
    destroy(old)
    fsync_dir(path.parent)


def retire(path: Path) -> None:
    """Remove a secret file at one moment, durably, and overwrite it: a crash never leaves half of it."""
    old = path.with_name(f".{path.name}{_OLD}")
    _end(old, path)
    path.replace(old)
    fsync_dir(path.parent)
    destroy(old)
    fsync_dir(path.parent)


def sweep(folder: Path) -> int:
    """Destroy what crashes left of secrets on their way: old files, and new ones that were not whole."""
    leftovers = [*folder.glob(f".*{_OLD}"), *folder.glob(".*.tmp")]
    for path in leftovers:
        _end(path, path.with_name(path.name.removeprefix(".").removesuffix(path.suffix)))
    if leftovers:
        fsync_dir(folder)
    return len(leftovers)


def _end(leftover: Path, path: Path) -> None:
    """Destroy a leftover; where it is only another name of the file that lives, the name."""
    if not leftover.exists():
        return
    if path.exists() and path.samefile(leftover):
        leftover.unlink()
    else:
        destroy(leftover)


def destroy(path: Path) -> None:
    """Overwrite a small secret file in place, durably, and remove it. The caller syncs the directory."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
