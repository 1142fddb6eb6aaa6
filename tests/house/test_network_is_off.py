"""The guards themselves: each must stop a connection outside, and let loopback through."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import pytest_socket

OUTSIDE = ("192.0.2.1", 9)  # TEST-NET-1 of RFC 5737: nobody is there


def test_this_process_reaches_nothing_outside() -> None:
    """pytest-socket refuses the address before a packet leaves."""
    with socket.socket() as sock, pytest.raises(pytest_socket.SocketConnectBlockedError):
        sock.connect(OUTSIDE)


def test_child_processes_reach_nothing_outside() -> None:
    """The children's guard is in force in a fresh interpreter."""
    script = f"import socket; socket.socket().connect({OUTSIDE!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "tests reach nothing but loopback" in done.stderr


def test_loopback_is_open() -> None:
    """The control: the same guards let loopback through."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        script = f"import socket; socket.create_connection({listener.getsockname()!r}, 5)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert done.returncode == 0
