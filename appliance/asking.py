"""Asking the running gateway, over the control socket in its home (`control.py` listens there).

Whoever runs a command of the program is told by the gateway; nothing here knows how it is carried out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.commands import Answer, Command
from appliance.errors import SetupError

MAX_ANSWER_BYTES = 1 << 26  # a list of every key ever made
CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def send(path: Path, command: Command, *, timeout_seconds: float = 60) -> Answer | None:
    """Ask the running gateway; None where none listens. SetupError where it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_seconds)
        try:
            with reachable(path) as address:
                peer.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            peer.sendall(msgspec.json.encode(command) + b"\n")
            with peer.makefile("rb") as stream:
                line = stream.readline(MAX_ANSWER_BYTES)
            answer: Answer = msgspec.json.decode(line, type=Answer)
        except (OSError, msgspec.MsgspecError) as error:
            raise SetupError(
                "the running gateway did not answer on its control socket",
                code="control_failed",
                hint="appliance serve's log tells more",
            ) from error
    return answer


def gateway_pid(path: Path) -> int | None:
    """The process that listens on a control socket, as the kernel says (unix(7), SO_PEERCRED)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        try:
            with reachable(path) as address:
                peer.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        pid: int = CREDENTIALS.unpack(credentials)[0]
        return pid


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address that fits: sun_path holds 107 bytes, a home can lie deeper (unix(7))."""
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{parent}/{path.name}"
    finally:
        os.close(parent)
