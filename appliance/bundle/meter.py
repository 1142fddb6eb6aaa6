"""How many bytes are done: one count for all that read, hash and copy a bundle's files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[int, int], None]  # bytes done, bytes in all
Told = Callable[[int], None]  # bytes since the last call


@dataclass(slots=True)
class Meter:
    """Adds up bytes for `progress`, which is called by one thread at a time."""

    progress: Progress | None
    total: int
    done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def told(self, count: int) -> None:
        """So many bytes more."""
        if self.progress is None:
            return
        with self._lock:
            self.done += count
            self.progress(min(self.done, self.total), self.total)
