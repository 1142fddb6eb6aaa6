"""Who may ask now, who waits for a turn, and what each key has had: the state behind three pure decisions.

`policy.admission` looks at the appliance, `policy.limits` at the key, `policy.queue` at the line before the
model. Who waits is not on the record yet: it has no opening before it is its turn (the sentence says
*admitted* first), and ends on it as a refusal where its turn does not come.

Turns are given only while the model is open (`fleet`): what is asked of one that is not in memory waits in
its line for the load. Time in which it is not open is not held against those who wait: they wait for it as
long as an answer may take.

A place is given back when the worker is done, whether or not the caller has read the answer by then. What
a key had today outlives a crash: at the start it is counted from the record (`audit.usage`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.usage import Used
from appliance.claims import Claim
from appliance.clock import Clock
from appliance.config import Settings
from appliance.core import InferenceRequest, ModelSpec, Principal, Role
from appliance.errors import ApplianceError, Busy, RequestError, Unavailable
from appliance.fleet import Fleet
from appliance.metrics import Metrics
from appliance.policy import limits as policy
from appliance.policy.limits import Asked, Bucket, Exceeded, Had
from appliance.policy.queue import Line, State, Ticket
from appliance.tasks import CountTask, DetokenizeTask, Task, TokenizeTask
from appliance.terms import Limits

_GUESS_US: Final = 2_000_000  # of how long a turn takes, while none has been seen
_PACE_TURNS: Final = 32  # ends that the pace is measured by
_LONGEST_US: Final = 600_000_000
_REFUSALS_A_SECOND: Final = 10  # of one key, that are told at once
_PAUSE_SECONDS: Final = 1.0  # before each further one is
_LATE_SECONDS: Final = 0.005  # a timer of the loop may come a little early
_QUICK: Final = (TokenizeTask, DetokenizeTask, CountTask)  # they cost the model no time


@dataclass(frozen=True, slots=True)
class Usage:
    """What one key has had, for people: of the last minute's buckets, of today (UTC), and right now."""

    requests: Bucket | None
    tokens: Bucket | None
    requests_today: int
    tokens_today: int
    at_once: int
    is_known: bool  # whether today is counted from the record


@dataclass(eq=False, slots=True)
class Place:
    """One admitted request: where it stands, and what it may cost. Owner of every field: `Admitting`."""

    key_id: str
    role: Role
    model: ModelSpec
    limits: Limits
    asked: Asked
    day: int
    came_us: int
    own_us: int | None  # how long its caller would wait at most
    claim: Claim | None = None  # on its model
    ticket: Ticket | None = None  # none: it costs the model no time, and waits for nobody
    line: Line | None = None
    turn: asyncio.Future[None] | None = None  # where it waits: done when that is over
    refusal: ApplianceError | None = None  # why its turn does not come
    is_over: bool = False


class Admitting:
    """Owner of lines, buckets and counts: the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        fleet: Fleet,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.max_inside = settings.engine.max_waiting + settings.engine.n_seq_max
        self.grace_seconds = settings.server.shutdown_grace_seconds
        self.is_stopping = False
        self._num_sequences = settings.engine.n_seq_max
        self._max_wait_us = settings.limits.max_wait_seconds * 1_000_000
        self._max_answer_us = settings.engine.request_timeout_seconds * 1_000_000
        roles = settings.limits
        self._roles = {Role.KIOSK: roles.kiosk.terms, Role.DEVELOPER: roles.developer.terms}
        self._fleet = fleet
        fleet.listen(self)
        self._clock = clock
        self._metrics = metrics
        self._lines: dict[str, Line] = {}  # by model
        self._places: dict[Ticket, Place] = {}
        self._num_quick = 0
        self._had: dict[str, Had] = {}  # by key: as many as have asked since the start
        self._refusals: dict[str, tuple[int, int]] = {}  # by key: the second of its last one, and how many
        self._ends_us: deque[int] = deque(maxlen=_PACE_TURNS)
        self._first_day = policy.day_of(clock.now_us())
        self._knows_first_day = False

    def enter(self, request: InferenceRequest | Task, principal: Principal, model: ModelSpec) -> Place:
        """A place for this request, with the model or in the line before it. Raises what refuses it."""
        now_us = self._clock.monotonic_us()
        limits = self._limits_of(principal)
        had = self._now(principal.key_id, limits)
        asked = policy.asked_of(request)
        exceeded = policy.decide(
            limits,
            had,
            asked,
            midnight_us=policy.DAY_US - self._clock.now_us() % policy.DAY_US,
            turn_us=self._turn_us(),
            knows_day=self._knows_day(),
        )
        if exceeded is not None:
            raise _exceeded(exceeded)
        own_us = _own_time_us(request)
        place = Place(principal.key_id, principal.role, model, limits, asked, had.day, now_us, own_us)
        if isinstance(request, _QUICK) and self._fleet.is_open(model.id):
            if self._num_quick >= self.max_inside:
                raise Busy("too many requests are running", code="overloaded", wait_us=self._turn_us())
            self._num_quick += 1
            place.claim = self._fleet.want(model)
            self._fleet.serve(place.claim)
        else:
            self._queue(place, self._line(model.id))
        # Anew: whose time was over may have been of the same key.
        self._had[place.key_id] = policy.admitted(self._now(place.key_id, limits), asked)
        if place.line is not None:
            self._grant(self._line(model.id))  # anew: what it asks for may have closed the model
        return place

    def changed(self, model_id: str) -> None:
        """Whether the model begins answers may be another thing now."""
        if model_id in self._lines:
            self._grant(self._line(model_id))

    def failed(self, model_id: str, error: ApplianceError) -> None:
        """The model can not be had: nobody waits for it any longer."""
        for place in [each for each in self._places.values() if each.model.id == model_id]:
            if place.turn is not None and not place.turn.done():
                self._refuse(place, error)

    async def wait(self, place: Place, ended: asyncio.Event) -> None:
        """Until it is this one's turn. Raises why it does not come; `ended`: nobody waits any longer."""
        if place.turn is None:
            return
        leaving = asyncio.ensure_future(ended.wait())
        either: set[asyncio.Future[Any]] = {place.turn, leaving}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
        if not place.turn.done():
            refusal = Unavailable("the caller left while it waited for its turn", code="left_queue")
            self._refuse(place, refusal, is_ours=False)
        if place.refusal is not None:
            raise place.refusal

    def leave(self, place: Place, *, num_tokens: int) -> None:
        """The worker is done with it, and it cost so much. Once is enough; again changes nothing."""
        if place.is_over:
            return
        had = self._now(place.key_id, place.limits)
        self._had[place.key_id] = policy.ended(had, place.asked, num_tokens=num_tokens)
        self._give_back(place)
        self._ends_us.append(self._clock.monotonic_us())

    def stop(self) -> None:
        """Nothing new from here on; who waits is told at once, since it would not be served."""
        self.is_stopping = True
        for place in list(self._places.values()):
            if place.turn is not None and not place.turn.done():
                wait_us = self.grace_seconds * 1_000_000
                self._refuse(place, Busy("the appliance is being stopped", code="stopping", wait_us=wait_us))

    def pause_seconds(self, principal: Principal) -> float:
        """How long a refusal is kept back: one that comes on top of many asks again too soon anyway, and
        reading what it asks costs more than letting it wait.
        """
        second = self._clock.monotonic_us() // 1_000_000
        begun, count = self._refusals.get(principal.key_id, (second, 0))
        count = count + 1 if begun == second else 1
        self._refusals[principal.key_id] = second, count
        return _PAUSE_SECONDS if count > _REFUSALS_A_SECOND else 0.0

    def learn(self, counted: Mapping[str, Used]) -> None:
        """What the record says of the first day, up to this start, by key."""
        for key_id, used in counted.items():
            had = self._had.get(key_id, Had(day=self._first_day))
            if had.day == self._first_day:
                tokens = used.num_tokens + used.num_recovered * policy.UNKNOWN_TOKENS
                self._had[key_id] = policy.counted(had, used.num_requests, tokens)
        self._knows_first_day = True

    def buckets(self, principal: Principal) -> dict[str, Bucket]:
        """How the minute's buckets of a caller stand: `requests`, `tokens`, where there are such limits."""
        limits = self._limits_of(principal)
        return policy.buckets(limits, self._now(principal.key_id, limits))

    def usage(self, principal: Principal) -> Usage:
        """What a key has had, of what it may."""
        limits = self._limits_of(principal)
        had = self._now(principal.key_id, limits)
        held = policy.buckets(limits, had)
        return Usage(
            requests=held.get("requests"),
            tokens=held.get("tokens"),
            requests_today=had.day_requests,
            tokens_today=had.day_tokens,
            at_once=had.at_once,
            is_known=self._knows_day(),
        )

    def _queue(self, place: Place, line: Line) -> None:
        """Into the line, which may refuse it, or somebody else for its sake."""
        model_id = place.model.id
        self._expire(model_id)
        wait_us = min(self._max_wait_us, self._longest_us(place))
        priority = place.limits.priority or 0
        ticket = Ticket(place.key_id, priority, place.asked.num_answers, place.came_us + wait_us)
        displaced = line.offer(ticket, place.came_us)
        if ticket.state is not State.WAITING:
            raise self._full(ticket, line)
        place.ticket, place.line = ticket, line
        place.claim = self._fleet.want(place.model)
        self._places[ticket] = place
        place.turn = asyncio.get_running_loop().create_future()
        self._metrics.waits(place.role, 1)
        for each in displaced:
            position = line.position(each)
            self._refuse(self._places[each], self._busy("queue_share_exceeded", position))
        self._expire_after(model_id, wait_us)

    def _grant(self, line: Line) -> None:
        now_us = self._clock.monotonic_us()
        for ticket in line.grant(now_us):
            place = self._places[ticket]
            if place.claim is not None:
                self._fleet.serve(place.claim)
            self._end_wait(place)

    def _longest_us(self, place: Place) -> int:
        """For so long it may wait for a model that is not open."""
        return self._max_answer_us if place.own_us is None else min(place.own_us, self._max_answer_us)

    def _expire_after(self, model_id: str, wait_us: int) -> None:
        asyncio.get_running_loop().call_later(wait_us / 1e6 + _LATE_SECONDS, self._expire, model_id)

    def _prolong(self, line: Line, model_id: str) -> None:
        """The model is not there: nobody's turn could come, so nobody's time is over before their own is."""
        now_us = self._clock.monotonic_us()
        for ticket in line.waiting():
            place = self._places[ticket]
            last_us = place.came_us + self._longest_us(place)
            if ticket.until_us <= now_us < last_us:
                ticket.until_us = min(last_us, now_us + self._max_wait_us)
                self._expire_after(model_id, ticket.until_us - now_us)

    def _expire(self, model_id: str) -> None:
        line = self._line(model_id)
        if not self._fleet.is_open(model_id):
            self._prolong(line, model_id)
        for ticket in line.expired(self._clock.monotonic_us()):
            place = self._places[ticket]
            if place.own_us is not None and ticket.until_us - place.came_us >= place.own_us:
                self._refuse(place, Unavailable("the answer took too long", code="timeout"))
            else:
                self._refuse(place, self._busy("queue_timeout", line.position(ticket)))

    def _end_wait(self, place: Place) -> None:
        if place.turn is not None and not place.turn.done():
            place.turn.set_result(None)
            self._metrics.waits(place.role, -1)
            self._metrics.waited(place.role, duration_us=self._clock.monotonic_us() - place.came_us)

    def _refuse(self, place: Place, refusal: ApplianceError, *, is_ours: bool = True) -> None:
        """It waited in vain: nothing of it was begun, nothing is used up."""
        had = self._now(place.key_id, place.limits)
        self._had[place.key_id] = policy.withdrawn(had, place.asked, is_ours=is_ours, day=place.day)
        place.refusal = refusal
        self._end_wait(place)
        self._give_back(place)

    def _give_back(self, place: Place) -> None:
        place.is_over = True
        if place.claim is not None:
            self._fleet.drop(place.claim)
        if place.ticket is None or place.line is None:
            self._num_quick -= 1
            return
        place.line.leave(place.ticket)
        del self._places[place.ticket]
        self._grant(place.line)

    def _line(self, model_id: str) -> Line:
        """The line before a model; nobody goes while that is not open. Its worker gets a little more than it
        runs, and so is never idle between two of them; one key alone leaves an eighth of what runs to others
        that ask.
        """
        line = self._lines.get(model_id)
        if line is None:
            line = self._lines[model_id] = Line(max_inside=self.max_inside, places=0)
        if not self._fleet.is_open(model_id):
            line.places = 0
            return line
        ready = self._fleet.engines[model_id].status.ready
        pools = 2 if ready is not None and ready.tuning.apart else 1
        beyond = max(1, self._num_sequences // 4)
        line.places = pools * self._num_sequences + beyond
        line.spare = line.places - max(1, self._num_sequences - max(1, self._num_sequences // 8))
        return line

    def _full(self, ticket: Ticket, line: Line) -> Busy:
        code = "queue_share_exceeded" if ticket.state is State.OVER_SHARE else "overloaded"
        return self._busy(code, line.position(ticket))

    def _busy(self, code: str, position: int) -> Busy:
        reason = {
            "queue_share_exceeded": "this key has its share of those who wait",
            "overloaded": "too many requests are waiting",
            "queue_timeout": "its turn did not come in time",
        }[code]
        wait_us = min(_LONGEST_US, (position + 1) * self._turn_us())
        before = f"{position} requests are" if position != 1 else "1 request is"
        return Busy(f"{reason}; {before} before this one", code=code, wait_us=wait_us, position=position)

    def _turn_us(self) -> int:
        """In which time a request ends, as measured lately: so fast the line moves."""
        if len(self._ends_us) < 2:
            return _GUESS_US
        return max(1, (self._clock.monotonic_us() - self._ends_us[0]) // (len(self._ends_us) - 1))

    def _limits_of(self, principal: Principal) -> Limits:
        return policy.effective(principal.terms.limits, self._roles.get(principal.role, Limits()))

    def _now(self, key_id: str, limits: Limits) -> Had:
        now_us = self._clock.monotonic_us()
        day = policy.day_of(self._clock.now_us())
        return policy.at(self._had.get(key_id, Had(day=day)), limits, now_us=now_us, day=day)

    def _knows_day(self) -> bool:
        return self._knows_first_day or policy.day_of(self._clock.now_us()) > self._first_day


def _own_time_us(request: InferenceRequest | Task) -> int | None:
    own = request.timeout_seconds if isinstance(request, InferenceRequest) else None
    return None if own is None else int(own * 1_000_000)


def _exceeded(exceeded: Exceeded) -> ApplianceError:
    if exceeded.wait_us is None:
        return RequestError(exceeded.reason, code=exceeded.code, param=exceeded.param)
    return Busy(exceeded.reason, code=exceeded.code, wait_us=exceeded.wait_us)
