"""For a worker that its gateway can not send signals: the kernel ends it when the gateway lets go.

The gateway sends the reading end of a pipe ahead of all messages, and keeps the only writing end. The kernel
sends SIGKILL when that is closed, by the gateway or by its death (fcntl(2), F_SETSIG): no thread of ours has
to run for it, and a user who may send us no signal can end us all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket

from appliance.engine.channel import LEASH


def take(fd: int) -> None:
    """Receive the leash from a fresh connection. SystemExit where the gateway has gone already."""
    with contextlib.closing(socket.socket(fileno=os.dup(fd))) as sock:
        greeting, received, _, _ = socket.recv_fds(sock, len(LEASH), 1)
    if greeting != LEASH or len(received) != 1:
        raise SystemExit(0 if not greeting else "the gateway sent no leash")
    pipe = received[0]  # open for as long as this process lives; it starts no others
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[
        0
    ]:  # let go before the kernel was told: nothing is ever written to it
        raise SystemExit(0)


def off_standard_input(fd: int) -> int:
    """The same socket under a number of its own, where systemd hands it over as standard input.

    Whoever reads or prints by accident would otherwise speak on it.
    """
    if fd > 2:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return moved
