"""Bytes on a socket, for requests that no client library would send."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error's code; the keys of the documented shape are checked on the way."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return str(error["code"])


def connect(url: str, *, context: ssl.SSLContext | None = None) -> socket.socket:
    """A connection to the port of this URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    sock = socket.create_connection((parts.hostname, parts.port or 80), timeout=SECONDS)
    if parts.scheme == "https":
        assert context is not None
        return context.wrap_socket(sock, server_hostname=parts.hostname)
    return sock


def send(url: str, data: bytes, *, context: ssl.SSLContext | None = None) -> list[Answer]:
    """Send these bytes, and read until the other side closes: every answer, in order."""
    with connect(url, context=context) as sock:
        with contextlib.suppress(ConnectionError):  # it may be refused before all of it was sent
            sock.sendall(data)
        return answers_in(read_all(sock))


def read_all(sock: socket.socket) -> bytes:
    """All that comes until the connection ends."""
    found = bytearray()
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        while data := sock.recv(65_536):
            found += data
    return bytes(found)


def answers_in(data: bytes) -> list[Answer]:
    """Answers, one behind the other, each with a content-length."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
        length = int(headers.get("content-length", len(rest)))
        found.append(Answer(int(line.split()[1]), headers, rest[:length]))
        data = rest[length:]
    return found


def request(
    method: str, path: str, *fields: str, key: str = "", body: bytes = b"", close: bool = True
) -> bytes:
    """A whole request, well formed but for what `fields` and `path` hold."""
    lines = [f"{method} {path} HTTP/1.1", "host: box", *fields]
    if key:
        lines.append(f"authorization: Bearer {key}")
    if close:
        lines.append("connection: close")
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
