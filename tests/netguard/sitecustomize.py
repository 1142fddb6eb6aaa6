"""Python imports this at its start in every process that a test starts: loopback or nothing.

With `NETGUARD_RECORD` it also refuses to ask for names, and writes a line there for whatever it refused.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

_RECORD = os.environ.get("NETGUARD_RECORD")
_getaddrinfo = socket.getaddrinfo
_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _check(sock: socket.socket, address: Any) -> None:
    if sock.family == socket.AF_UNIX:
        return
    host = address[0]
    if host != "localhost" and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise _refused("a connection")


def _refused(what: str) -> PermissionError:
    if _RECORD:
        with open(_RECORD, "a", encoding="utf-8") as file:  # noqa: PTH123 - whoever imports this waits for it
            file.write(f"{what}\n")
    return PermissionError("tests reach nothing but loopback")


def connect(self: socket.socket, address: Any) -> None:
    _check(self, address)
    _connect(self, address)


def connect_ex(self: socket.socket, address: Any) -> int:
    _check(self, address)
    return _connect_ex(self, address)


socket.socket.connect = connect  # type: ignore[method-assign,assignment]
socket.socket.connect_ex = connect_ex  # type: ignore[method-assign,assignment]


def getaddrinfo(host: Any, *given: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if name not in {None, "", "localhost", "127.0.0.1", "::1"}:
        raise _refused("a name")
    return _getaddrinfo(host, *given, **options)


if _RECORD:
    socket.getaddrinfo = getaddrinfo
