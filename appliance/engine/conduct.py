"""What a worker's end says about its conduct, and when enough is enough. Pure.

A worker that its sandbox ended did what no worker of ours does: its code or its model is broken, or somebody
speaks through it. It is started again, because one such end may be a mistake of ours; after a few in an hour
the model stays down, and a person has to look.
"""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass, field
from typing import Final

DIED: Final = "worker_died"
MISBEHAVED: Final = "worker_misbehaved"
GIVEN_UP: Final = "worker_given_up"
ALARMING: Final = frozenset({MISBEHAVED, GIVEN_UP})  # somebody should look, also after the next one answers
MAX_IN_AN_HOUR: Final = 3
ADVICE: Final = (
    f"the sandbox ended {MAX_IN_AN_HOUR} workers within an hour, and no other is started: look into the "
    "kernel's log for 'type=1326' (journalctl -k), and at who asked then; then restart the appliance"
)
_HOUR_US = 3600 * 1_000_000


def code_of(status: int | None, *, otherwise: str = DIED) -> str:
    """Why it ended, by what its end is known to be: negative for a signal, None where nobody knows."""
    return MISBEHAVED if status == -signal.SIGSYS else otherwise


def words_of(status: int | None) -> str:
    """The same for a person."""
    if status is None:  # nobody but its own parent hears of that
        return "the worker has gone"
    if code_of(status) == MISBEHAVED:
        return "the worker's sandbox ended it: it made a system call that no worker makes"
    return f"the worker was ended by signal {-status}" if status < 0 else f"the worker exited with {status}"


@dataclass(slots=True)
class Conduct:
    """The misbehaviour of one model's workers in the last hour. Owner: the engine's task."""

    _ends_us: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_IN_AN_HOUR))

    def misbehaved(self, now_us: int) -> bool:
        """Count one more; True where no other worker is to be started."""
        self._ends_us.append(now_us)
        return len(self._ends_us) == MAX_IN_AN_HOUR and now_us - self._ends_us[0] < _HOUR_US
