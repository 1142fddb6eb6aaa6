"""Cells of the key-value pool, counted as the library holds them: one cell may belong to many.

Pure. The ids here are ours, not the library's: what matters is how many distinct cells are in use,
and how many of them only the cache still wants.
"""

from __future__ import annotations

from collections.abc import Iterable


class CellPool:
    """Reference counts, by holders that run and by holders that are cached."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._running = [0] * size
        self._cached = [0] * size
        self._free = list(range(size - 1, -1, -1))
        self._num_running = 0

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.size - len(self._free)

    @property
    def num_cached_only(self) -> int:
        """Cells that no running sequence holds."""
        return self.num_used - self._num_running

    def num_private(self, cells: Iterable[int]) -> int:
        """How many of a leaf's cells nobody else holds."""
        return sum(self._running[cell] == 0 and self._cached[cell] == 1 for cell in cells)

    def take(self, count: int) -> list[int]:
        """Fresh cells for a running sequence. ValueError where there are not enough."""
        if count > len(self._free):
            raise ValueError("the pool has not so many free cells")
        taken = [self._free.pop() for _ in range(count)]
        for cell in taken:
            self._running[cell] = 1
        self._num_running += count
        return taken

    def share_running(self, cells: Iterable[int]) -> None:
        """A running sequence holds these cells too."""
        for cell in cells:
            self._running[cell] += 1
            self._num_running += self._running[cell] == 1

    def share_cached(self, cells: Iterable[int]) -> None:
        """A cached leaf holds these cells too."""
        for cell in cells:
            self._cached[cell] += 1

    def drop_running(self, cells: Iterable[int]) -> None:
        """A running sequence lets go."""
        for cell in cells:
            self._running[cell] -= 1
            self._num_running -= self._running[cell] == 0
            self._reclaim(cell)

    def drop_cached(self, cells: Iterable[int]) -> None:
        """A cached leaf lets go."""
        for cell in cells:
            self._cached[cell] -= 1
            self._reclaim(cell)

    def _reclaim(self, cell: int) -> None:
        if self._running[cell] == 0 and self._cached[cell] == 0:
            self._free.append(cell)
