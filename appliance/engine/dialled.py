"""A worker that somebody else starts, behind a socket: systemd, in a sandbox with a user of its own.

Each connection is a worker. Nobody here knows its parent, hears its last words or may send it signals: its
end is the end of the connection, and the leash (engine/worker/leash.py) is what ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import Final

from appliance.engine.channel import LEASH, AsyncChannel
from appliance.engine.messages import LoadModel, Ready, Shutdown, ToGateway, ToWorker

DIAL_SECONDS: Final = 10
ROOT: Final = 0
_PEER = struct.Struct("3i")  # pid, uid, gid (unix(7), SO_PEERCRED)


class DialledWorker:
    """A connection to a worker. Owner: its supervisor's task."""

    last_words: Final = "what it said is in the journal (journalctl -u 'appliance-worker@*')"

    def __init__(self, channel: AsyncChannel[ToGateway, ToWorker], leash: int) -> None:
        self.channel = channel
        self.pid: int | None = None  # as it says itself: for people, never for signals
        self._leash: int | None = leash  # the kernel kills the worker when this is closed

    @classmethod
    async def dial(cls, path: Path, load: LoadModel) -> DialledWorker:
        """Connect, hand over the leash and the model. OSError where nobody who may is listening there."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        held, leash = os.pipe()
        try:
            sock.setblocking(False)  # noqa: FBT003 - the standard library's own shape
            async with asyncio.timeout(DIAL_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, str(path))
            _require_trusted(sock)
            socket.send_fds(sock, [LEASH], [held])
            channel: AsyncChannel[ToGateway, ToWorker] = await AsyncChannel.over(sock, ToGateway)
        except BaseException as error:
            os.close(leash)
            sock.close()
            if isinstance(error, OSError):
                raise OSError(error.errno, f"{path}: {error.strerror or 'nobody answers'}") from error
            raise
        finally:
            os.close(held)
        worker = cls(channel, leash)
        channel.send(load)
        return worker

    def note_ready(self, ready: Ready) -> None:
        """It answers; the supervisor says so."""
        self.pid = ready.pid or None

    async def end(self, *, grace_seconds: float) -> None:
        """Shutdown by message and end of file, then by the leash, each with a bound. May be called again."""
        if self._leash is not None:
            self.channel.send(Shutdown())
            await self._hang_up(grace_seconds)
            os.close(self._leash)
            self._leash = None
        await self._hang_up(grace_seconds)  # its memory is free when it has hung up
        self.channel.close()

    async def _hang_up(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.channel.finish()


def _require_trusted(sock: socket.socket) -> None:
    """Prompts go there: only root, or this user, may have opened the socket."""
    _, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if uid not in {ROOT, os.geteuid()}:
        raise OSError(None, f"opened by user {uid}, who is neither root nor this one")
