"""Frames over an AF_UNIX socket pair: four bytes of length, big-endian, then msgpack.

End of file is a clean end (`None` or StopAsyncIteration by the caller's loop); a frame that is too
long or does not decode is `ChannelError`, and the side that sees it gives the peer up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Generic, TypeVar

import msgspec

MAX_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH_BYTES = 4
_DROPPED_BYTES = 64 * 1024  # at once, of what a peer says that nobody wants to hear any more
LEASH = b"L"  # ahead of all frames to a dialled worker: the byte that carries its leash (worker/leash.py)

In = TypeVar("In")
Out = TypeVar("Out")


class ChannelError(Exception):
    """The peer does not speak this protocol."""


class BlockingChannel(Generic[In, Out]):
    """The worker's side. `receive` belongs to one thread; `send` may be called from any."""

    def __init__(self, sock: socket.socket, incoming: object) -> None:
        self._stream = sock.makefile("rb")
        self._sock = sock
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._sending = threading.Lock()

    def receive(self) -> In | None:
        """The next message; None at end of file."""
        head = self._stream.read(_LENGTH_BYTES)
        if len(head) < _LENGTH_BYTES:
            return None
        size = _checked_size(head)
        body = self._stream.read(size)
        if len(body) < size:
            return None
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ChannelError("a frame does not decode") from error

    def send(self, *messages: Out) -> None:
        """Write messages, in order, in one go. OSError where the peer is gone."""
        data = b"".join(_frame(self._encoder.encode(message)) for message in messages)
        with self._sending:
            self._sock.sendall(data)

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._sock.close()


class AsyncChannel(Generic[In, Out]):
    """The gateway's side, on an event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: object) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()

    @classmethod
    async def over(cls, sock: socket.socket, incoming: object) -> AsyncChannel[In, Out]:
        """A channel over a connected socket, which it owns from now on."""
        reader, writer = await asyncio.open_connection(sock=sock)
        return cls(reader, writer, incoming)

    async def receive(self) -> In | None:
        """The next message; None at end of file, also in the middle of a frame."""
        try:
            size = _checked_size(await self._reader.readexactly(_LENGTH_BYTES))
            body = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            return None
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ChannelError("a frame does not decode") from error

    def send(self, message: Out) -> None:
        """Hand a message to the transport. A dead peer is noticed by `receive`, and by it alone."""
        frame = _frame(self._encoder.encode(message))
        if not self._writer.is_closing():  # a transport whose peer died in mid-write is closed already
            self._writer.write(frame)

    async def finish(self) -> None:
        """Nothing more is said; return when the peer has hung up too. What it still says is dropped."""
        if not self._writer.is_closing():
            with contextlib.suppress(OSError):  # it has hung up before us
                self._writer.write_eof()
        with contextlib.suppress(OSError):
            while await self._reader.read(_DROPPED_BYTES):
                pass

    def close(self) -> None:
        """End the connection: the worker sees end of file and exits."""
        self._writer.close()


def _frame(body: bytes) -> bytes:
    if len(body) > MAX_FRAME_BYTES:
        raise ChannelError("a frame is too long")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def _checked_size(head: bytes) -> int:
    size = int.from_bytes(head, "big")
    if size > MAX_FRAME_BYTES:
        raise ChannelError("a frame is too long")
    return size
