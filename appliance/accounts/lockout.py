"""Wrong tries at the entrance: a name waits after five in a row, an address has so many in an hour. Pure.

Names that nobody has wait as well, so that waiting does not tell who exists. Both tables are bounded: a flood
of invented names pushes out the oldest, which were not about to get in. What was counted of an account's name
is restored after a restart (`entrances.py`); of other names and of addresses it is not.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from appliance.errors import Refused

FREE_TRIES: Final = 5
FIRST_WAIT_SECONDS: Final = 30
MAX_WAIT_SECONDS: Final = 3600
ADDRESS_TRIES: Final = 30  # wrong ones, of one address, at once
ADDRESS_SECONDS: Final = 30  # then one more for each
_MAX_NAMES: Final = 10_000
_MAX_ADDRESSES: Final = 10_000
_PREFIX_V6: Final = 64  # one machine has all of them


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long one waits behind wrong tries in a row: from `free` of them on, each time twice as long."""

    free: int
    first_seconds: int
    most_seconds: int

    def seconds(self, count: int) -> int:
        """Behind `count` wrong tries."""
        over = count - self.free
        return 0 if over < 0 else min(self.first_seconds << min(over, 16), self.most_seconds)


_WAITING: Final = Waiting(FREE_TRIES, FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)


class Locked(Refused):
    """Not before `retry_after_seconds` are over, whatever is typed."""

    default_code = "account_locked"

    def __init__(self, message: str, *, code: str, retry_after_seconds: int) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


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
        wait_s = _WAITING.seconds(count)
        self._put(name, _Tries(count, now_us + wait_s * 1_000_000))
        return wait_s > 0

    def restore(self, name: str, count: int, *, wait_us: int, now_us: int) -> None:
        """What was counted before a restart, and what is left of its waiting: never longer than it was."""
        left_us = min(max(0, wait_us), _WAITING.seconds(count) * 1_000_000)
        self._put(name, _Tries(count, now_us + left_us))

    def succeeded(self, name: str) -> None:
        """Forget the wrong tries before the right one."""
        self._tries.pop(name, None)

    def _put(self, name: str, tries: _Tries) -> None:
        self._tries[name] = tries
        self._tries.move_to_end(name)
        while len(self._tries) > _MAX_NAMES:
            self._tries.popitem(last=False)


class Addresses:
    """A purse of tries for each address: taken before the slow work, given back where it was right.

    Owner of `_spent`: the event loop's thread. Times are monotonic, in microseconds.
    """

    def __init__(self) -> None:
        self._spent: OrderedDict[str, int] = OrderedDict()  # when the purse is full again

    def take(self, address: str, *, now_us: int) -> int:
        """Take a try; how many seconds are to wait where there is none (then none is taken)."""
        name = _place(address)
        full_us = max(now_us, self._spent.get(name, 0)) + ADDRESS_SECONDS * 1_000_000
        over_us = full_us - now_us - ADDRESS_TRIES * ADDRESS_SECONDS * 1_000_000
        if over_us > 0:
            return -(-over_us // 1_000_000)
        self._spent[name] = full_us
        self._spent.move_to_end(name)
        while len(self._spent) > _MAX_ADDRESSES:
            self._spent.popitem(last=False)
        return 0

    def give_back(self, address: str) -> None:
        """The try was a right one."""
        name = _place(address)
        if name in self._spent:
            self._spent[name] -= ADDRESS_SECONDS * 1_000_000


def _place(address: str) -> str:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, _PREFIX_V6), strict=False))
