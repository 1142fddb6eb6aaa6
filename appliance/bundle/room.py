"""Room on a disk, told in numbers before it is needed, and where it gives out all the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from appliance.bundle.refusals import BundleRefused, Exit

SPARE_BYTES: Final = 16 * 1024 * 1024  # folders, lists and the journal beside what is copied
_BLOCK: Final = 4096
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def free_bytes(path: Path) -> int:
    """What may still be written on the file system of a path, or of its nearest folder that is there."""
    place = next(each for each in (path, *path.parents) if each.exists())
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def require(path: Path, sizes: list[int]) -> None:
    """BundleRefused (22) where files of these sizes do not fit."""
    needed = sum(-(-size // _BLOCK) * _BLOCK for size in sizes)
    free = free_bytes(path)
    if sizes and needed + SPARE_BYTES > free:
        raise BundleRefused(
            Exit.DISK,
            f"{in_words(needed + SPARE_BYTES)} are needed on the disk of {path}, {in_words(free)} are free",
            hint="make room, then run the same command again: what was copied is kept",
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Writes to this host's disk. BundleRefused (22) with numbers where they fail."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            message = f"the disk of {path} is full: {in_words(free_bytes(path))} are free"
            hint = "make room, then run the same command again: what was copied is kept"
        else:
            message = f"writing to {path} failed: {error.strerror}"
            hint = "look for the disk's errors in the kernel's log (dmesg)"
        raise BundleRefused(Exit.DISK, message, hint=hint) from error


def in_words(size: int) -> str:
    """Bytes for people: 4.71 GB."""
    value = float(size)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return (
                f"{size} B"
                if unit == "B"
                else f"{value:.3g} {unit}"
                if value < 100
                else f"{value:.0f} {unit}"
            )
        value /= 1000
    raise AssertionError(size)
