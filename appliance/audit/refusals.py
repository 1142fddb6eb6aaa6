"""How refusals are thinned out under a flood: one by one within a burst, counted beyond it. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace

MAX_ADDRESSES = 4096
MANY = ""  # the address of what is counted together because there are too many addresses
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted together: one address doing one thing."""

    address: str
    code: str
    status: int
    route: str


class RefusalLimiter:
    """A token bucket per address, `burst` tokens deep, refilled by `burst` a second.

    At most `MAX_ADDRESSES` buckets live; the least recently used one goes first, and a flood from
    ever new addresses shares one more bucket and one count, so that memory and records stay bounded.
    """

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._newcomers: tuple[float, int] = (float(burst), 0)
        self._counts: Counter[Counted] = Counter()

    def admit(self, refusal: Counted, *, now_us: int) -> bool:
        """True: record it by itself. False: it was counted, and `flush` will tell."""
        known = refusal.address in self._buckets
        if not known and not self._take_newcomer(now_us):
            self._counts[replace(refusal, address=MANY)] += 1
            return False
        tokens, last_us = self._buckets.pop(refusal.address, (float(self._burst), now_us))
        tokens = self._refilled(tokens, last_us, now_us)
        single = tokens >= 1
        self._buckets[refusal.address] = (tokens - 1 if single else tokens, now_us)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        if not single:
            self._counts[refusal] += 1
        return single

    def flush(self) -> list[tuple[Counted, int]]:
        """What was counted since the last flush."""
        counts, self._counts = self._counts, Counter()
        return sorted(counts.items(), key=lambda item: (item[0].address, item[0].code))

    def _take_newcomer(self, now_us: int) -> bool:
        # Only a full table makes newcomers share: before that each address has its own bucket.
        if len(self._buckets) < MAX_ADDRESSES:
            return True
        tokens, last_us = self._newcomers
        tokens = self._refilled(tokens, last_us, now_us)
        taken = tokens >= 1
        self._newcomers = (tokens - 1 if taken else tokens, now_us)
        return taken

    def _refilled(self, tokens: float, last_us: int, now_us: int) -> float:
        return min(self._burst, tokens + (now_us - last_us) * self._burst / _SECOND_US)
