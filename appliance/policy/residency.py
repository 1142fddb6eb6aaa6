"""Which models are in memory: who is loaded, who has to go for whom, and when. Pure: no clock, no I/O; times
are handed in.

A model is *resident* from the moment its load begins until its worker is gone, and counts against the budget
for all of that time. It is *wanted* while somebody waits for it and it is not resident. A resident one is
*idle* where it answers nobody and nobody waits for it; a busy one has its *turn*: as long as `turn_us`, or as
its own load took, whichever is longer. So at most half of the time goes into loading, and a model with a
steady stream of questions makes room for another one's in a bounded time.

Numbered decision tree of `decide`, for each wanted model, whoever waits longest first:
1. more than the budget leaves beside the pinned models            → refuse it, with the numbers
2. it fits into what is free                                        → load it
3. it fits once idle models are gone, longest unused first          → evict those
4. it fits once busy ones whose turn is over are gone besides, longest here first
                                                                    → hold those: they begin no more answers,
                                                                      and go when their last one has ended
5. otherwise                                                        → it waits for a turn's end, or a load's
Nothing passes a model that waits: what is free is kept for it, so large ones do not starve behind small ones.

Then, for who is resident:
6. more in memory than the budget, since a worker holds more than was reckoned   → idle ones go, as in 3
7. idle for longer than `idle_us`                                                → evict it

Never evicted: a pinned model, one that answers, and one that is still being loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """Why a model came, or went; on the record with its digest."""

    START = "start"  # it is pinned, and the appliance started
    DEMAND = "demand"  # somebody asked it
    ACTIVATION = "activation"  # an alias came to point to it
    RESTART = "restart"  # its worker had ended
    ROOM = "room"  # another one needed the memory
    IDLE = "idle"  # nobody asked it for long
    FAILED = "failed"  # it could not be loaded
    STOP = "stop"  # the appliance ends


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory, or on its way there or out. Times: microseconds of the monotonic clock."""

    id: str
    num_bytes: int
    is_pinned: bool = False
    is_ready: bool = True  # False: it is being loaded
    is_down: bool = False  # its worker has ended, and is to come back
    is_leaving: bool = False
    num_leases: int = 0  # questions that it answers
    num_waiting: int = 0  # that wait for it
    ready_us: int = 0  # since when it answers
    used_us: int = 0  # when it answered last
    load_us: int = 0  # how long its load took

    @property
    def is_idle(self) -> bool:
        return self._may_go and not self.num_leases and not self.num_waiting

    @property
    def is_busy(self) -> bool:
        return self._may_go and not self.is_idle

    @property
    def _may_go(self) -> bool:
        return not self.is_pinned and not self.is_leaving and (self.is_ready or self.is_down)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that somebody waits for since `since_us`, and what it needs."""

    id: str
    num_bytes: int
    since_us: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator decides. 0 `idle_us`: models go only for others."""

    budget_bytes: int
    turn_us: int
    idle_us: int = 0

    def turn_ends_us(self, each: Resident) -> int:
        """From then on a busy model makes room for another."""
        return each.ready_us + max(self.turn_us, each.load_us)


@dataclass(frozen=True, slots=True)
class TooLarge:
    """It needs more than there ever is for it."""

    id: str
    num_bytes: int
    room_bytes: int


@dataclass(frozen=True, slots=True)
class Decided:
    """What to do now. `again_us`: when time alone may change this, on the monotonic clock."""

    load: tuple[str, ...] = ()
    evict: tuple[tuple[str, Why], ...] = ()
    hold: frozenset[str] = frozenset()
    refuse: tuple[TooLarge, ...] = ()
    again_us: int | None = None


def room_for(rules: Rules, residents: Iterable[Resident], model_id: str, *, beside: str = "") -> int:
    """Bytes that a model can have at most: the budget without the others that are pinned, and `beside`."""
    stay = (each for each in residents if each.is_pinned or each.id == beside)
    return max(0, rules.budget_bytes - sum(each.num_bytes for each in stay if each.id != model_id))


def decide(rules: Rules, residents: Sequence[Resident], wanted: Sequence[Wanted], now_us: int) -> Decided:
    """Walk the tree above."""
    walk = _Walk(rules, residents, now_us)
    for each in sorted(wanted, key=lambda each: (each.since_us, each.id)):
        walk.want(each)
    walk.settle()
    return Decided(
        tuple(walk.load),
        tuple(walk.evict.items()),
        frozenset(walk.hold),
        tuple(walk.refuse),
        walk.again_us(),
    )


class _Walk:
    """What was decided so far."""

    def __init__(self, rules: Rules, residents: Sequence[Resident], now_us: int) -> None:
        self._rules = rules
        self._residents = residents
        self._now_us = now_us
        self._free = rules.budget_bytes - sum(each.num_bytes for each in residents)
        self._coming = sum(each.num_bytes for each in residents if each.is_leaving)  # free before long
        self._is_awaited = False  # somebody waits for a turn to end
        self.load: list[str] = []
        self.evict: dict[str, Why] = {}
        self.hold: set[str] = set()
        self.refuse: list[TooLarge] = []

    def want(self, model: Wanted) -> None:
        room = room_for(self._rules, self._residents, model.id)
        if model.num_bytes > room:  # 1
            self.refuse.append(TooLarge(model.id, model.num_bytes, room))
            return
        if model.num_bytes <= self._free:  # 2
            self.load.append(model.id)
            self._free -= model.num_bytes
            return
        free, self._free = self._free, min(0, self._free)
        self._is_awaited = True
        missing = model.num_bytes - free
        missing -= self._promised(missing)
        victims = self._victims(missing)
        if victims is None:  # 5
            return
        self._free = 0
        self._coming += sum(each.num_bytes for each in victims)
        self._promised(missing)
        for each in victims:
            if each.num_leases:
                self.hold.add(each.id)
            else:
                self.evict[each.id] = Why.ROOM

    def settle(self) -> None:
        over = -self._free - self._coming
        for each in self._idle():
            if over > 0:  # 6
                self.evict[each.id] = Why.ROOM
                over -= each.num_bytes
            elif self._rules.idle_us and self._now_us - each.used_us >= self._rules.idle_us:  # 7
                self.evict[each.id] = Why.IDLE

    def again_us(self) -> int | None:
        times = []
        if self._is_awaited:
            times += [self._rules.turn_ends_us(each) for each in self._residents if each.is_busy]
        if self._rules.idle_us:
            times += [each.used_us + self._rules.idle_us for each in self._idle()]
        return min((each for each in times if each > self._now_us), default=None)

    def _promised(self, missing: int) -> int:
        """Of what becomes free before long, this much is for whoever misses it."""
        part = max(0, min(self._coming, missing))
        self._coming -= part
        return part

    def _victims(self, missing: int) -> list[Resident] | None:
        """Who has to go so that so many bytes become free; None where that is not enough yet."""
        over = [
            each
            for each in self._residents
            if each.is_busy and not self._is_taken(each) and self._rules.turn_ends_us(each) <= self._now_us
        ]
        over.sort(key=lambda each: (each.ready_us, each.id))
        chosen: list[Resident] = []
        for each in (*self._idle(), *over):  # 3, 4
            if missing <= 0:
                break
            chosen.append(each)
            missing -= each.num_bytes
        if missing > 0:
            return None
        for each in reversed(chosen[:-1]):  # the last ones may have made earlier ones needless
            if missing + each.num_bytes <= 0:
                chosen.remove(each)
                missing += each.num_bytes
        return chosen

    def _idle(self) -> list[Resident]:
        """Longest unused first."""
        found = [each for each in self._residents if each.is_idle and not self._is_taken(each)]
        return sorted(found, key=lambda each: (each.used_us, each.id))

    def _is_taken(self, each: Resident) -> bool:
        return each.id in self.evict or each.id in self.hold
