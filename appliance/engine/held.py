"""Files of the kernel's that are read again and again, and opened once: a sealed worker can open nothing."""

from __future__ import annotations

import functools
import os

_MAX_BYTES = 64 * 1024


def read(path: str) -> str:
    """What stands in it now. OSError where it could not be opened the first time."""
    opened = _opened(path)
    if isinstance(opened, OSError):
        raise OSError(opened.errno, opened.strerror)
    return os.pread(opened, _MAX_BYTES, 0).decode("utf-8", "replace")


@functools.cache
def _opened(path: str) -> int | OSError:
    """For as long as the process lives. What was not there is not looked for again."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error
