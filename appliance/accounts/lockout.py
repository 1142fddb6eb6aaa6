"""Wrong passphrases: after five in a row a name waits, longer each time. Pure.

Names that nobody has wait as well, so that waiting does not tell who exists. The table is bounded: a flood
of invented names pushes out the oldest, which were not about to get in.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

FREE_TRIES: Final = 5
FIRST_WAIT_SECONDS: Final = 30
MAX_WAIT_SECONDS: Final = 3600
_MAX_NAMES: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Tries:
    count: int
    until_us: int  # before it, nobody gets in under this name


class Lockout:
    """Owner of `_tries`: the event loop's thread. Times are monotonic, in microseconds."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def wait_seconds(self, name: str, *, now_us: int) -> int:
        """How long this name waits until it may be tried again; 0: now."""
        tries = self._tries.get(name)
        return 0 if tries is None else max(0, -(-(tries.until_us - now_us) // 1_000_000))

    def failed(self, name: str, *, now_us: int) -> bool:
        """Count a wrong try; whether the name is locked from now on."""
        count = (self._tries[name].count if name in self._tries else 0) + 1
        over = count - FREE_TRIES
        wait_s = 0 if over < 0 else min(FIRST_WAIT_SECONDS << min(over, 16), MAX_WAIT_SECONDS)
        self._tries[name] = _Tries(count, now_us + wait_s * 1_000_000)
        self._tries.move_to_end(name)
        while len(self._tries) > _MAX_NAMES:
            self._tries.popitem(last=False)
        return wait_s > 0

    def succeeded(self, name: str) -> None:
        """Forget the wrong tries before the right one."""
        self._tries.pop(name, None)
