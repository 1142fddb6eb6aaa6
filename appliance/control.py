"""Commands from this host's `appliance` program to the running gateway, over an AF_UNIX socket.

The gateway is the only writer of the database while it runs, so whoever wants a change asks it.
One connection carries one command and one answer, each a line of JSON. The socket belongs to the
home's owner (mode 0600), and the peer's user id is checked besides: it must be ours or root's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import msgspec

from appliance.alone import Alone
from appliance.asking import CREDENTIALS, reachable
from appliance.commands import (
    Answer,
    Command,
    Problem,
)
from appliance.log import get_logger
from appliance.performing import Live, perform

MAX_LINE_BYTES = 1 << 20  # of a command

log = get_logger(__name__)


class ControlServer:
    """Listens in the home. Owner of the socket file: the process that holds the home's lock."""

    def __init__(self, path: Path, alone: Alone, live: Live | None = None) -> None:
        self._path = path
        self._alone = alone
        self._live = live
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Bind; a socket file left by a crash is ours to replace, since we hold the lock."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        earlier = os.umask(0o177)  # the file must never exist with a wider mode
        try:
            with reachable(self._path) as address:
                listener.bind(address)
        finally:
            os.umask(earlier)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE_BYTES)

    async def stop(self) -> None:
        """Stop listening and remove the file."""
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(reader, writer.get_extra_info("socket"))
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            log.warning("control_connection_failed", error=type(error).__name__)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, peer: socket.socket) -> Answer:
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        _pid, uid, _gid = CREDENTIALS.unpack(raw)
        if uid not in {os.geteuid(), 0}:
            log.warning("control_peer_refused", uid=uid)
            return Problem(code="permission_denied", message="this user may not command the gateway")
        try:
            command = msgspec.json.decode(await reader.readuntil(b"\n"), type=Command)
        except (msgspec.MsgspecError, asyncio.LimitOverrunError):
            return Problem(code="invalid_command", message="the command is not understood")
        return await perform(command, self._alone, self._live)
