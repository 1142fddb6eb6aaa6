"""Requests that wait for their grammar: beside everybody else, tenants in turn, one end each."""

from __future__ import annotations

import threading

from appliance.engine.messages import Failed, Finished, Generate, Rejected, ToGateway
from appliance.engine.question import Sampling, Turn
from appliance.engine.worker.compiling import Compiling
from appliance.engine.worker.prepare import Read
from appliance.engine.worker.sequence import Sequence
from tests.engines import Bench

_PLAIN = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, None, ())


class Room:
    """A queue before the thread that compiles, and what came out of it."""

    def __init__(self, max_waiting: int = 8) -> None:
        self.bench = Bench()
        self.delivered: list[Sequence] = []
        self.said: list[ToGateway] = []
        self.compiling = Compiling(
            self.bench.preparer,
            max_waiting=max_waiting,
            deliver=self.delivered.append,
            say=self.said.append,
        )

    def read(self, request_id: str, schema: str, tenant: str = "kiosk") -> Read | Sequence | Rejected:
        return self.bench.preparer.read(
            Generate(request_id, (Turn("user", "hello"),), _PLAIN, tenant, schema)
        )

    def add(self, request_id: str, schema: str, tenant: str = "kiosk") -> Read:
        read = self.read(request_id, schema, tenant)
        assert isinstance(read, Read)
        self.compiling.add(read)
        return read


def test_only_what_is_new_waits() -> None:
    """A schema that was compiled before passes by, and so does a request without one."""
    room = Room()
    room.compiling.compile(room.add("first", '{"type": "integer"}'))

    assert [each.request_id for each in room.delivered] == ["first"]
    assert isinstance(room.read("again", '{"type": "integer"}'), Sequence)
    assert isinstance(room.read("plain", ""), Sequence)


def test_tenants_take_turns() -> None:
    """Who sends many is no reason to wait for many."""
    room = Room()
    for number in range(3):
        room.add(f"many {number}", f'{{"const": {number}}}', "many")
    room.add("one", '{"const": "one"}', "one")

    assert room.compiling._next("many").sequence.request_id == "one"
    assert room.compiling._next("one").sequence.request_id == "many 0"


def test_one_end_for_each() -> None:
    """Refused, aborted while it waits or while it is compiled, or one too many: exactly one message."""
    room = Room(max_waiting=3)
    refused = room.add("refused", '{"not": {}}')
    left = room.add("left", '{"const": 1}')
    busy = room.add("busy", '{"const": 2}')
    overflow = room.read("overflow", '{"const": 3}')
    assert isinstance(overflow, Read)
    room.compiling.add(overflow)
    room.compiling.compile(refused)
    assert room.compiling.abort("left")
    assert not room.compiling.abort("left")
    room.compiling.compile(left)
    finish = room.bench.preparer.finish

    def leave_meanwhile(read: Read) -> Sequence | Rejected:
        assert room.compiling.abort("busy")
        return finish(read)

    room.bench.preparer.finish = leave_meanwhile  # type: ignore[method-assign]
    room.compiling.compile(busy)

    assert room.delivered == []
    assert [type(each) for each in room.said] == [Failed, Rejected, Finished, Finished]
    assert not room.compiling.abort("nobody")


def test_the_thread_takes_them_as_they_come() -> None:
    """It waits for somebody, and compiles for them."""
    room = Room()
    threading.Thread(target=room.compiling.run, daemon=True).start()
    arrived = threading.Event()
    room.compiling._deliver = lambda _: arrived.set()
    room.add("one", '{"type": "integer"}')

    assert arrived.wait(10)
