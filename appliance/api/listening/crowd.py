"""How many connections there are: of one listener, and of one address. Owner: the event loop's thread."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Most:
    """At most so many connections at once."""

    in_all: int
    of_one_address: int


class Crowd:
    """Counts who is in. Each `admit` that says yes is followed by exactly one `release`."""

    def __init__(self, most: Most) -> None:
        self._most = most
        self._by_address: Counter[str] = Counter()
        self._count = 0

    @property
    def count(self) -> int:
        return self._count

    def admit(self, address: str) -> bool:
        """Whether one more may come in from here; where it may, it is counted."""
        if self._count >= self._most.in_all or self._by_address[address] >= self._most.of_one_address:
            return False  # a Counter that is asked keeps nothing
        self._count += 1
        self._by_address[address] += 1
        return True

    def release(self, address: str) -> None:
        """One of those that came in has gone."""
        self._count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
