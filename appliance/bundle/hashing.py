"""Digests of many files as fast as the hash goes: each byte is read once, several files at a time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.bundle.refusals import BundleRefused, Exit

Progress = Callable[[int, int], None]  # bytes done, bytes in all

_BUFFER_BYTES: Final = 1 << 20
_THREADS: Final = min(4, os.cpu_count() or 1)  # hashlib computes outside the interpreter's lock
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file and what it must be. `name` is what people are told."""

    name: str
    place: Path
    sha256: str
    size: int


def check(wanted: Sequence[Wanted], progress: Progress | None = None) -> None:
    """Reads every file. BundleRefused: other bytes (16), not there (14), not readable (22); all are named."""
    counter = _Counter(sum(each.size for each in wanted), progress)
    largest_first = sorted(wanted, key=lambda each: (-each.size, each.name))
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="hash") as pool:
        codes = pool.map(lambda each: _check(each, counter), largest_first)
        bad = [(code, each.name) for code, each in zip(codes, largest_first, strict=True) if code is not None]
    if bad:
        worst = min(code for code, _ in bad)
        names = sorted(name for _, name in bad)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise BundleRefused(worst, f"not what was signed: {', '.join(names[:_SHOWN])}{more}")


def digest(place: Path, progress: Callable[[int], None] | None = None) -> tuple[str, int]:
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
            if progress is not None:
                progress(num)
    finally:
        os.close(fd)
    return hasher.hexdigest(), size


def _check(each: Wanted, counter: _Counter) -> Exit | None:
    try:
        if each.place.lstat().st_size != each.size:
            return Exit.WRONG_DIGEST
        found = digest(each.place, counter.add)
    except FileNotFoundError:
        return Exit.MISSING
    except OSError:
        return Exit.DISK
    return None if found == (each.sha256, each.size) else Exit.WRONG_DIGEST


class _Counter:
    """Bytes of all threads. `progress` is called by one at a time."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()
        self.add(0)

    def add(self, num: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += num
                self._progress(self._done, self._total)
