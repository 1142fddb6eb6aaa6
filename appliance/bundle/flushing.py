"""A file that goes to the disk while it is still being written.

Written first and synced then, a part of 256 MiB leaves the disk idle while it is hashed, and the processor
idle while it is synced. Here a second thread asks for the disk every few MiB, while the first one reads and
hashes.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

EVERY_BYTES: Final = 16 * 1024 * 1024


class Flushed:
    """Writes to `fd`, which stays the caller's. OSError from `write` and `finish`.

    What went wrong in the other thread is told by them: the kernel reports a failed write back only once.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._since = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._pending: Future[None] | None = None

    def write(self, data: memoryview) -> None:
        """All of it, however often the kernel wants to be asked."""
        while data:
            count = os.write(self._fd, data)
            data = data[count:]
            self._since += count
        if self._since >= EVERY_BYTES and (self._pending is None or self._pending.done()):
            self._check()
            self._since = 0
            self._pending = self._pool.submit(os.fdatasync, self._fd)

    def finish(self) -> None:
        """All of it is on the disk when this returns."""
        self._check()
        os.fsync(self._fd)

    def close(self) -> None:
        """The other thread is gone. `fd` may be closed then, and not before."""
        self._pool.shutdown()

    def _check(self) -> None:
        if self._pending is not None:
            self._pending.result()
