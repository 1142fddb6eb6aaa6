"""Frames: what is sent arrives, what is wrong is refused, an end is an end."""

from __future__ import annotations

import asyncio
import socket

import pytest

from appliance.engine import channel
from appliance.engine.channel import AsyncChannel, BlockingChannel, ChannelError
from appliance.engine.messages import Abort, Delta, Shutdown, ToGateway, ToWorker


async def pair() -> tuple[
    AsyncChannel[ToGateway, ToWorker], BlockingChannel[ToWorker, ToGateway], socket.socket
]:
    ours, theirs = socket.socketpair()
    return await AsyncChannel.over(ours, ToGateway), BlockingChannel(theirs, ToWorker), theirs


async def test_messages_arrive_in_order_both_ways() -> None:
    """Every kind of message survives the wire as itself."""
    gateway, worker, raw = await pair()
    gateway.send(Abort("a"))
    gateway.send(Shutdown())
    worker.send(Delta("a", "grüß", 1), Delta("a", "x" * 200_000, 2))

    assert [await asyncio.to_thread(worker.receive) for _ in range(2)] == [Abort("a"), Shutdown()]
    assert [await gateway.receive() for _ in range(2)] == [
        Delta("a", "grüß", 1),
        Delta("a", "x" * 200_000, 2),
    ]
    gateway.close()
    assert await asyncio.to_thread(worker.receive) is None
    raw.close()


@pytest.mark.parametrize("cut", [1, 4, 6])
async def test_end_of_file_inside_a_frame_is_an_end(cut: int) -> None:
    """A peer that dies while it writes leaves nothing half-read."""
    gateway, _worker, raw = await pair()
    raw.sendall((10).to_bytes(4, "big")[:cut] + b"xy"[: max(0, cut - 4)])
    raw.shutdown(socket.SHUT_WR)

    assert await gateway.receive() is None
    gateway.close()
    raw.close()


@pytest.mark.parametrize("frame", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02\xc1\xc1", b"\x00\x00\x00\x01\x80"])
async def test_nonsense_is_refused(frame: bytes) -> None:
    """Too long, not msgpack, not one of the messages: ChannelError."""
    gateway, _worker, raw = await pair()
    raw.sendall(frame)
    with pytest.raises(ChannelError):
        await gateway.receive()
    gateway.close()
    raw.close()


def test_frames_are_bounded_on_the_way_out() -> None:
    """Nobody sends what the other side would refuse."""
    with pytest.raises(ChannelError):
        channel._frame(b"x" * (channel.MAX_FRAME_BYTES + 1))


async def test_writing_to_a_dead_peer_is_no_error_of_the_writer() -> None:
    """A peer that dies under a large write leaves a closed transport: receiving tells, sending does not."""
    gateway, _worker, raw = await pair()
    for _ in range(64):
        gateway.send(Abort("x" * 100_000))
    raw.shutdown(socket.SHUT_RDWR)
    assert await gateway.receive() is None
    for _ in range(3):
        gateway.send(Abort("nobody hears this"))
        await asyncio.sleep(0)
    gateway.close()
    gateway.send(Abort("nor this"))
    raw.close()
