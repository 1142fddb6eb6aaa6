"""Under which adapter the next step is computed. Pure: no library, no clock.

The library lays an adapter over a whole context, so one step computes the sequences of one adapter, and
a change makes it plan its graphs anew, inside the first step that follows.

Numbered decision tree of `choose`:
1. who computes goes on while there is nothing to do under any other adapter
2. else a turn lasts until it has taken `TURNS_WORTH` times as long as a change does, and at most
   `MAX_TURN_US`: then changes take no more than a fifth of the time, unless single steps are that long
3. after a turn it is up to the adapter whose last turn is longest ago: with `n` at work each has its
   turn after n - 1 others, whoever arrives meanwhile
"""

from __future__ import annotations

from collections.abc import Sequence

TURNS_WORTH = 4  # a turn, in changes
MAX_TURN_US = 250_000  # somebody reads what is written under the others


class Rota:
    """Whose turn it is in one pool, where a change costs so much. Owner: the step thread."""

    def __init__(self, change_us: float) -> None:
        self._turn_us = min(TURNS_WORTH * change_us, MAX_TURN_US)
        self._current = ""
        self._spent_us = 0.0  # of this turn
        self._is_over = False
        self._num_turns = 0
        self._last: dict[str, int] = {}  # the number of each adapter's last turn

    def choose(self, at_work: Sequence[str]) -> str:
        """The next step's adapter, out of those under which there is something to do (at least one)."""
        others = [each for each in at_work if each != self._current]
        if not others or (self._current in at_work and not self._turn_is_over):  # 1, 2
            return self._current
        self._num_turns += 1
        self._last[self._current] = self._num_turns
        self._current = min(others, key=lambda each: self._last.get(each, 0))  # 3
        self._spent_us, self._is_over = 0.0, False
        return self._current

    def ran(self, took_us: float) -> None:
        """A step of the turn."""
        self._spent_us += took_us

    def could_not(self) -> None:
        """Nothing could be computed: the others have what is needed for it."""
        self._is_over = True

    @property
    def _turn_is_over(self) -> bool:
        return self._is_over or self._spent_us >= self._turn_us
