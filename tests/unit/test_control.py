"""The control socket: bounded, private, and alive after whatever is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from appliance import asking, config
from appliance.accounts import keys
from appliance.alone import Alone, open_log_alone
from appliance.commands import Answer, Command, Done, ListKeys, Problem, RecordReading
from appliance.config import Home
from appliance.control import MAX_LINE_BYTES, ControlServer
from appliance.core import Role
from tests.clocks import ManualClock


@contextlib.asynccontextmanager
async def listening(home: Home, clock: ManualClock) -> AsyncIterator[Alone]:
    with open_log_alone(home, config.load(home), clock) as alone:
        server = ControlServer(home.control_socket, alone)
        await server.start()
        try:
            yield alone
        finally:
            await server.stop()


async def ask(home: Home, command: Command) -> object:
    return await asyncio.to_thread(asking.send, home.control_socket, command)


def speak(home: Home, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(5)
        peer.connect(str(home.control_socket))
        with contextlib.suppress(OSError):
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            return peer.recv(65536)
    return b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"kind":"ListKeys"',
        b"[" * 100_000 + b"\n",
        b"x" * (2 * MAX_LINE_BYTES),
        b'{"kind":"RecordReading","event":"request:opened","public":{},"content":{}}\n',
        b'{"kind":"RecordReading","event":"audit:read","public":{"target":1152921504606846976},"content":{}}\n',
    ],
    ids=["nothing", "empty", "object", "no text", "cut", "deep", "huge", "other kind", "poison"],
)
async def test_whatever_is_sent_the_gateway_goes_on(home: Home, clock: ManualClock, data: bytes) -> None:
    """A bad frame ends its own connection, in silence or with a problem; the log stays open."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    async with listening(home, clock) as alone:
        answer = await asyncio.to_thread(speak, home, data)
        assert isinstance(await ask(home, ListKeys()), Done)
        assert alone.audit.is_ready

    assert answer == b"" or isinstance(msgspec.json.decode(answer, type=Answer), Problem)
    assert failures == []


async def test_many_keys_fit_into_an_answer(home: Home, clock: ManualClock) -> None:
    """A list of ten thousand keys arrives whole: keys are never deleted."""
    async with listening(home, clock) as alone:
        for number in range(10_000):
            alone.directory.put(keys.generate(f"key-{number}", Role.KIOSK, now_us=number).key)
        answer = await ask(home, ListKeys())

    assert isinstance(answer, Done)
    assert len(answer.result["keys"]) == 10_000


async def test_socket_is_private_and_goes_with_the_gateway(home: Home, clock: ManualClock) -> None:
    """Only its owner may connect, and a stopped gateway leaves no file."""
    async with listening(home, clock):
        assert home.control_socket.stat().st_mode & 0o777 == 0o600

    assert not home.control_socket.exists()


async def test_commands_side_by_side_each_get_their_answer(home: Home, clock: ManualClock) -> None:
    """Fifty readings at once are fifty records."""
    async with listening(home, clock):
        answers = await asyncio.gather(
            *(
                ask(home, RecordReading(event="audit:searched", public={"num_results": n}, content={}))
                for n in range(50)
            )
        )

    assert len({answer.result["seq"] for answer in answers if isinstance(answer, Done)}) == 50
