"""The line before the model: who is let in next, who waits, who has to go. Pure: no clock, no I/O; times are
handed in.

Tickets of one key are served in the order of their arrival. Every ticket has a start tag (start-time fair
queueing): where its key would stand if each answer of this key took a turn among the keys of its priority.
A key that asks ten times as much as another so has ten times as long a line, and no more turns. Priorities
take turns by weight: each step up doubles it, so that kiosks (6) have eight answers for one of a developer
(3) while both wait, and nobody waits for ever. An answer counts as one turn, a request with `n` choices as
`n`.

Numbered decision tree of `offer`:
1. with this ticket there would be no more answers inside than may be     → it is in
2. too many, but another key has more answers waiting, with its newest ticket gone as many as this key would
   have: that one is displaced; on until there is room                    → it is in
3. too many, others are here, and this key would have more than an equal share  → over its share
4. too many                                                               → full

Numbered decision tree of `grant`:
1. tickets whose time is over are nobody's turn: `expired` takes them out first
2. the priority that had least for its weight, of those where somebody may go
3. in it the lowest start tag, then the earliest arrival. A key does not go while it holds so many places
   that no `spare` one is left, if another key has asked in the last minute: somebody who asks now and then
   does not wait behind the long answers of one who asks always
4. where it does not fit beside those who run, the line is held: nobody starves behind smaller requests.
   One that is larger than all places together goes when they are all free
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from appliance.terms import PRIORITIES

RECENT_US: Final = 60_000_000  # so long a key is somebody for whom places are spared
_MOST_URGENT: Final = PRIORITIES[1]


class State(StrEnum):
    """Of a ticket; the last five are its end."""

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"  # it ran, or left before
    DISPLACED = "displaced"
    EXPIRED = "expired"
    OVER_SHARE = "over_share"
    FULL = "full"


@dataclass(eq=False, slots=True)
class Ticket:
    """One request in the line. Owner of everything behind `until_us`: the line."""

    key: str
    priority: int
    num_answers: int
    until_us: int  # how long it may wait, on the monotonic clock
    state: State = State.NEW
    number: int = 0  # of its arrival
    tag: int = 0
    places: int = 0  # that it holds

    @property
    def order(self) -> tuple[int, int]:
        return self.tag, self.number


@dataclass(slots=True)
class _Own:
    """What waits of one key, in one priority."""

    finish: int = 0  # the tag of its next ticket, if that came now
    tickets: deque[Ticket] = field(default_factory=deque)


@dataclass(slots=True)
class _Priority:
    """The keys of one priority. `served` counts answers, each by the inverse of the priority's weight."""

    step: int
    served: int = 0
    tag: int = 0  # of the ticket that went last
    keys: dict[str, _Own] = field(default_factory=dict)

    @property
    def waiting(self) -> Iterator[Ticket]:
        for own in self.keys.values():
            yield from own.tickets

    @property
    def is_empty(self) -> bool:
        return not any(own.tickets for own in self.keys.values())


class Line:
    """Who waits for one model, and who is with it. Owner: the event loop's thread.

    max_inside: answers that run and wait. places: that run at once; `spare` of them are left by one key
    alone where others ask, too.
    """

    def __init__(self, *, max_inside: int, places: int, spare: int = 0) -> None:
        self.max_inside = max_inside
        self.places = places
        self.spare = spare
        self._priorities: dict[int, _Priority] = {}
        self._running: dict[str, int] = {}  # places by key
        self._waiting: dict[str, int] = {}  # answers by key
        self._num_running = 0  # answers: a request that is larger than all places counts whole
        self._places_taken = 0
        self._seen_us: dict[str, int] = {}
        self._served = 0  # what the priority that went last had before
        self._arrivals = 0
        self._ahead: list[tuple[int, int, Ticket]] | None = None  # the order, until something changes

    @property
    def num_waiting(self) -> int:
        """Answers."""
        return sum(self._waiting.values())

    @property
    def num_inside(self) -> int:
        """Answers, running and waiting."""
        return self._num_running + self.num_waiting

    @property
    def num_free(self) -> int:
        """Places."""
        return max(0, self.places - self._places_taken)

    def waiting(self) -> list[Ticket]:
        """Everybody who waits, in the order in which they go if nobody comes, leaves or is held back."""
        return [ticket for *_, ticket in self._order()]

    def position(self, ticket: Ticket) -> int:
        """How many requests go before this one, as `waiting` tells; of a new one: would go."""
        if ticket.state is State.WAITING:
            return self.waiting().index(ticket)
        own = self._priority(ticket.priority).keys.get(ticket.key)
        tag = self._next_tag(ticket.priority, own)
        before = [each for *_, each in self._order() if each.priority == ticket.priority and each.tag <= tag]
        turn = self._begin(ticket.priority) + self._step(ticket.priority) * sum(
            each.num_answers for each in before
        )
        return len(before) + sum(
            each.priority != ticket.priority and (served, -each.priority) < (turn, -ticket.priority)
            for served, _, each in self._order()
        )

    def offer(self, ticket: Ticket, now_us: int) -> list[Ticket]:
        """Walk the first tree above; the ticket's state tells what became of it. Whoever was displaced."""
        self._note(ticket.key, now_us)
        displaced: list[Ticket] = []
        if not self._make_room(ticket, displaced):
            ticket.state = State.OVER_SHARE if self._is_over_share(ticket) else State.FULL
            return []
        for each in displaced:
            self._take_out(each, State.DISPLACED)
        ranks = self._priority(ticket.priority)
        if ranks.is_empty:
            ranks.served = max(ranks.served, self._served)
        own = ranks.keys.setdefault(ticket.key, _Own())
        ticket.tag = self._next_tag(ticket.priority, own)
        own.finish = ticket.tag + ticket.num_answers
        own.tickets.append(ticket)
        self._arrivals += 1
        ticket.number = self._arrivals
        ticket.state = State.WAITING
        self._waiting[ticket.key] = self._waiting.get(ticket.key, 0) + ticket.num_answers
        self._ahead = None
        return displaced

    def grant(self, now_us: int) -> list[Ticket]:
        """Walk the second tree above, until nobody more can go: they run from here on."""
        gone: list[Ticket] = []
        while self._places_taken < self.places and (ticket := self._next(now_us)) is not None:
            wanted = min(ticket.num_answers, self.places)
            if self._places_taken + wanted > self.places:  # 4
                break
            self._take_out(ticket, State.RUNNING, wanted)
            gone.append(ticket)
        return gone

    def leave(self, ticket: Ticket) -> None:
        """It has ended, or does not wait any longer. Once is enough; again changes nothing."""
        if ticket.state is State.WAITING:
            self._take_out(ticket, State.DONE)
        elif ticket.state is State.RUNNING:
            ticket.state = State.DONE
            self._count(self._running, ticket.key, -ticket.places)
            self._places_taken -= ticket.places
            self._num_running -= ticket.num_answers

    def expired(self, now_us: int) -> list[Ticket]:
        """Those whose time is over: they do not wait any longer."""
        over = [
            each for ranks in self._priorities.values() for each in ranks.waiting if each.until_us <= now_us
        ]
        for each in over:
            self._take_out(each, State.EXPIRED)
        return over

    def _make_room(self, ticket: Ticket, displaced: list[Ticket]) -> bool:
        missing = self.num_inside + ticket.num_answers - self.max_inside
        mine = self._waiting.get(ticket.key, 0) + ticket.num_answers
        left = {key: num for key, num in self._waiting.items() if key != ticket.key}
        newest: dict[str, list[Ticket]] = {}
        while missing > 0:  # 2
            longest = max(left, key=lambda each: left[each], default=None)
            if longest is None:
                return False
            if longest not in newest:
                newest[longest] = self._of(longest)
            last = newest[longest].pop()
            left[longest] -= last.num_answers
            if left[longest] < mine:
                return False
            missing -= last.num_answers
            displaced.append(last)
        return True

    def _is_over_share(self, ticket: Ticket) -> bool:
        keys = {*self._waiting, *self._running, ticket.key}
        mine = self._waiting.get(ticket.key, 0) + self._running.get(ticket.key, 0) + ticket.num_answers
        return len(keys) > 1 and mine * len(keys) > self.max_inside  # 3

    def _of(self, key: str) -> list[Ticket]:
        """What waits of a key, in the order of arrival."""
        owns = [ranks.keys[key] for ranks in self._priorities.values() if key in ranks.keys]
        return sorted((each for own in owns for each in own.tickets), key=lambda each: each.number)

    def _next(self, now_us: int) -> Ticket | None:
        most = self.places
        if len(self._lately(now_us)) > 1:
            most = max(1, self.places - self.spare)
        best: tuple[int, int, Ticket] | None = None
        for priority, ranks in self._priorities.items():  # 2
            heads = [own.tickets[0] for own in ranks.keys.values() if own.tickets]
            heads = [each for each in heads if self._may_go(each, most)]  # 3
            if heads and (best is None or (ranks.served, -priority) < best[:2]):
                best = ranks.served, -priority, min(heads, key=lambda each: each.order)
        return best[2] if best is not None else None

    def _may_go(self, ticket: Ticket, most: int) -> bool:
        holds = self._running.get(ticket.key, 0)
        return holds == 0 or holds + min(ticket.num_answers, most) <= most

    def _take_out(self, ticket: Ticket, state: State, places: int = 0) -> None:
        """From the line, into `state`. What stands behind it of its key moves up, unless its turn is used."""
        ranks = self._priorities[ticket.priority]
        own = ranks.keys[ticket.key]
        at = own.tickets.index(ticket)
        del own.tickets[at]
        self._count(self._waiting, ticket.key, -ticket.num_answers)
        self._ahead = None
        ticket.state = state
        if state is State.RUNNING:
            ticket.places = places
            self._places_taken += places
            self._num_running += ticket.num_answers
            self._count(self._running, ticket.key, places)
            self._served = ranks.served
            ranks.served += ranks.step * ticket.num_answers
            ranks.tag = max(ranks.tag, ticket.tag)
        else:
            own.finish -= ticket.num_answers
            for place in range(at, len(own.tickets)):
                own.tickets[place].tag -= ticket.num_answers
        if not own.tickets and own.finish <= ranks.tag:
            del ranks.keys[ticket.key]  # its past decides nothing any more

    def _order(self) -> list[tuple[int, int, Ticket]]:
        """What its priority had before each goes, the priority itself (negative), and the ticket."""
        if self._ahead is None:
            lines = []
            for priority, ranks in self._priorities.items():
                served = ranks.served
                line = []
                for each in sorted(ranks.waiting, key=lambda each: each.order):
                    line.append((served, -priority, each))
                    served += ranks.step * each.num_answers
                lines.append(line)
            self._ahead = list(heapq.merge(*lines, key=lambda each: each[:2]))
        return self._ahead

    def _priority(self, priority: int) -> _Priority:
        if priority not in self._priorities:
            self._priorities[priority] = _Priority(self._step(priority))
        return self._priorities[priority]

    def _step(self, priority: int) -> int:
        return 1 << (_MOST_URGENT - priority)

    def _begin(self, priority: int) -> int:
        ranks = self._priority(priority)
        return max(ranks.served, self._served) if ranks.is_empty else ranks.served

    def _next_tag(self, priority: int, own: _Own | None) -> int:
        last = self._priority(priority).tag
        return last if own is None else max(own.finish, last)

    def _note(self, key: str, now_us: int) -> None:
        self._seen_us.pop(key, None)
        self._seen_us[key] = now_us  # the latest last

    def _lately(self, now_us: int) -> dict[str, int]:
        while self._seen_us and now_us - next(iter(self._seen_us.values())) > RECENT_US:
            del self._seen_us[next(iter(self._seen_us))]
        return self._seen_us

    @staticmethod
    def _count(counts: dict[str, int], key: str, change: int) -> None:
        counts[key] = counts.get(key, 0) + change
        if counts[key] <= 0:
            del counts[key]
