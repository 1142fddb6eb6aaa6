"""Digests of many files as fast as the hash goes: each byte is read once, several files at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.bundle.meter import Meter, Progress, Told
from appliance.bundle.refusals import BundleRefused, Exit, some

_BUFFER_BYTES: Final = 1 << 20
_THREADS: Final = min(4, os.cpu_count() or 1)  # hashlib computes outside the interpreter's lock


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file and what it must be. `name` is what people are told."""

    name: str
    place: Path
    sha256: str
    size: int


def check(wanted: Sequence[Wanted], progress: Progress | None = None) -> None:
    """Reads every file. BundleRefused: other bytes (16), not there (14), not readable (22); all are named."""
    meter = Meter(progress, sum(each.size for each in wanted))
    meter.told(0)
    largest_first = sorted(wanted, key=lambda each: (-each.size, each.name))
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="hash") as pool:
        codes = pool.map(lambda each: _check(each, meter), largest_first)
        bad = [(code, each.name) for code, each in zip(codes, largest_first, strict=True) if code is not None]
    if bad:
        worst = min(code for code, _ in bad)
        raise BundleRefused(worst, f"not what was signed: {some(sorted(name for _, name in bad))}")


def digest(place: Path, told: Told | None = None) -> tuple[str, int]:
    """(SHA-256, bytes) of one file. OSError as the system has it."""
    hasher, size = hashlib.sha256(), 0
    view = memoryview(bytearray(_BUFFER_BYTES))
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe there would wait for ever
    fd = os.open(place, flags)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while num := os.readv(fd, [view]):
            hasher.update(view[:num])
            size += num
            if told is not None:
                told(num)
    finally:
        os.close(fd)
    return hasher.hexdigest(), size


def _check(each: Wanted, meter: Meter) -> Exit | None:
    try:
        if each.place.lstat().st_size != each.size:
            return Exit.WRONG_DIGEST
        found = digest(each.place, meter.told)
    except FileNotFoundError:
        return Exit.MISSING
    except OSError:
        return Exit.DISK
    return None if found == (each.sha256, each.size) else Exit.WRONG_DIGEST
