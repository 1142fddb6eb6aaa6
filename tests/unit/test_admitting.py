"""What stands behind the decisions: places, the pace of the line, what is told, what is given back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance import config
from appliance.admitting import Admitting, Place
from appliance.audit.usage import Used
from appliance.core import ChatMessage, InferenceRequest, ModelSpec, Principal, Role, SamplingParams
from appliance.engine.status import EngineStatus, State
from appliance.errors import Busy, RequestError, Unavailable
from appliance.metrics import Metrics
from appliance.terms import Limits, Terms
from tests.clocks import ManualClock
from tests.fleets import settled

MODEL = ModelSpec(id="m", sha256="0" * 64, size_bytes=1, path=Path("/nowhere"))
TOML = "[engine]\nn_seq_max = 1\nmax_waiting = 3\n[limits.kiosk]\nrequests_per_minute = 0\n"


@dataclass
class Idle:
    """An engine that is asked for its status only."""

    status: EngineStatus = EngineStatus(State.READY, None, 0, "", None)  # noqa: RUF009 - frozen


class Room:
    """An `Admitting` over a clock that the test moves. One place, and one more beyond it."""

    def __init__(self, toml: str = TOML) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.admitting = Admitting(
            config.parse(toml),
            fleet=settled({"m": Idle()}),
            clock=self.clock,
            metrics=self.metrics,
        )

    def enter(self, key: str, **options: Any) -> Place:
        limits = options.pop("limits", Limits())
        request = InferenceRequest(
            request_id="r",
            model="m",
            messages=(ChatMessage("user", "x"),),
            **{"sampling": SamplingParams(max_tokens=8), **options},
        )
        return self.admitting.enter(request, who(key, limits), MODEL)


def who(key: str, limits: Limits = Limits()) -> Principal:  # noqa: B008 - frozen
    return Principal(key, key, Role.KIOSK, Terms(limits=limits))


def runs(place: Place) -> bool:
    return place.turn is not None and place.turn.done() and place.refusal is None


async def test_a_place_that_is_given_back_is_the_next_ones() -> None:
    """Two run, the third waits; when the worker is done with one, its turn has come, once."""
    room = Room()
    first, second, third = (room.enter("k") for _ in range(3))
    assert [runs(each) for each in (first, second, third)] == [True, True, False]
    waiting = asyncio.create_task(room.admitting.wait(third, asyncio.Event()))
    room.admitting.leave(first, num_tokens=5)
    room.admitting.leave(first, num_tokens=5)
    await waiting

    assert runs(third)
    assert room.admitting.usage(who("k")).at_once == 2
    assert room.admitting.usage(who("k")).tokens_today == 5


async def test_what_a_refusal_tells_is_how_fast_the_line_moves() -> None:
    """Before anything was measured it is a guess; then it is the time of an answer, by the position."""
    room = Room()
    places = [room.enter("k") for _ in range(4)]
    with pytest.raises(Busy) as guessed:
        room.enter("k")
    for _ in range(6):
        room.clock.advance(3.0)
        running = next(each for each in places if runs(each) and not each.is_over)
        room.admitting.leave(running, num_tokens=1)
        places.append(room.enter("k"))
    with pytest.raises(Busy) as measured:
        room.enter("k")

    assert (guessed.value.code, guessed.value.position, guessed.value.wait_us) == ("overloaded", 2, 6_000_000)
    assert (measured.value.position, measured.value.wait_us) == (2, 9_000_000)
    assert measured.value.retry_after_seconds == 9
    assert "2 requests are before this one" in measured.value.message


async def test_a_stop_tells_who_waits_and_gives_back_what_they_had() -> None:
    """The running ones go on; those in the line are refused at once, and have used nothing up."""
    room = Room()
    limits = Limits(requests_per_minute=10, requests_per_day=10)
    room.admitting.learn({})
    places = [room.enter("k", limits=limits) for _ in range(4)]
    room.admitting.stop()
    for each in places[2:]:
        with pytest.raises(Busy) as refused:
            await room.admitting.wait(each, asyncio.Event())
        assert refused.value.code == "stopping"
    usage = room.admitting.usage(who("k", limits))

    assert room.admitting.is_stopping
    assert (usage.at_once, usage.requests_today) == (2, 2)
    assert usage.requests is not None
    assert usage.requests.remaining == 8
    assert room.metrics.counts().waiting == 0


async def test_who_leaves_the_line_makes_room_for_others() -> None:
    """Its request of the minute stays used: else coming and going would cost nothing."""
    room = Room()
    limits = Limits(requests_per_minute=10)
    places = [room.enter("k", limits=limits) for _ in range(4)]
    gone = asyncio.Event()
    gone.set()
    with pytest.raises(Unavailable) as left:
        await room.admitting.wait(places[3], gone)
    again = room.enter("k", limits=limits)
    usage = room.admitting.usage(who("k", limits))

    assert left.value.code == "left_queue"
    assert not runs(again)
    assert usage.at_once == 4
    assert usage.requests is not None
    assert usage.requests.remaining == 5


async def test_who_came_before_midnight_waits_over_it() -> None:
    """What is given back behind midnight is not given back to the new day."""
    room = Room()
    room.clock.wall_us = 20_780 * 86_400_000_000 - 1
    room.admitting.learn({"k": Used(3, 100, 2)})
    limits = Limits(requests_per_day=50)
    for _ in range(3):
        waiting = room.enter("k", limits=limits)
    before = room.admitting.usage(who("k", limits))
    room.clock.advance(1)
    late = room.enter("k", limits=limits)
    room.admitting.stop()
    usage = room.admitting.usage(who("k", limits))

    assert waiting.refusal is not None
    assert late.refusal is not None
    assert before.requests_today == 3  # the first day of this start is another one: nothing is added to it
    assert (usage.requests_today, usage.at_once, usage.is_known) == (0, 2, True)


async def test_what_the_record_says_is_added_once() -> None:
    """Requests and tokens of before the start, answers that a crash cut off at a usual answer's."""
    room = Room()
    limits = Limits(requests_per_day=5, tokens_per_day=10_000)
    with pytest.raises(Busy) as unknown:
        room.enter("k", limits=limits)
    room.admitting.learn({"k": Used(4, 100, 2)})
    room.enter("k", limits=limits)
    with pytest.raises(Busy) as used_up:
        room.enter("k", limits=limits)

    assert unknown.value.code == "usage_unknown"
    assert used_up.value.code == "insufficient_quota"
    assert room.admitting.usage(who("k", limits)).tokens_today == 100 + 2 * 512


async def test_more_than_a_key_may_ever_have_at_once_is_a_mistake() -> None:
    """400, and nothing of it is counted."""
    room = Room()
    with pytest.raises(RequestError) as refused:
        room.enter("k", limits=Limits(concurrency=1), n=2)

    assert (refused.value.code, refused.value.param) == ("invalid_value", "n")
    assert room.admitting.usage(who("k")).at_once == 0


async def test_refusals_of_a_flood_come_slowly() -> None:
    """Ten within a second at once, each further one a second later; the next second begins anew."""
    room = Room()
    told = [room.admitting.pause_seconds(who("flood")) for _ in range(12)]
    other = room.admitting.pause_seconds(who("other"))
    room.clock.advance(1)

    assert told == [0.0] * 10 + [1.0] * 2
    assert (other, room.admitting.pause_seconds(who("flood"))) == (0.0, 0.0)
