"""What lies in wait outside: a name server that knows every name, and a server behind every door.

A program of its own, run inside the peer's network namespace with the interpreter of this host:
`python trap.py EVENTS ADDRESS PORT…`. Each name that is asked for and each connection is one line of EVENTS.
It ends when its standard input does.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys
from pathlib import Path
from typing import BinaryIO

ANSWER = b"HTTP/1.1 418 trapped\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def name_of(query: bytes) -> str:
    """The name that a DNS query asks for (RFC 1035, 4.1.2)."""
    labels, at = [], 12
    while at < len(query) and query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels)


def answer_to(query: bytes, address: str) -> bytes:
    """Every name lies at `address`; an AAAA query is answered with nothing."""
    question = query[12:]
    end = question.find(b"\0") + 5
    is_a = question[end - 4 : end - 2] == b"\0\1"
    header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, int(is_a), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
    return header + question[:end] + (record if is_a else b"")


def main(events: Path, address: str, ports: list[int]) -> None:
    """Wait for callers until standard input ends."""
    waiting = selectors.DefaultSelector()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("0.0.0.0", 53))  # noqa: S104 - a network namespace of its own
    waiting.register(names, selectors.EVENT_READ)
    for port in ports:
        waiting.register(socket.create_server(("0.0.0.0", port)), selectors.EVENT_READ)  # noqa: S104
    waiting.register(sys.stdin.buffer, selectors.EVENT_READ)
    with events.open("a", encoding="utf-8", buffering=1) as file:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in waiting.select():
                if not isinstance(key.fileobj, socket.socket):
                    ended: BinaryIO = sys.stdin.buffer
                    if not ended.read(1):
                        return
                elif key.fileobj is names:
                    query, caller = names.recvfrom(4096)
                    file.write(f"name {name_of(query)}\n")
                    names.sendto(answer_to(query, address), caller)
                else:
                    caller_socket, _ = key.fileobj.accept()
                    file.write(f"connection to port {key.fileobj.getsockname()[1]}\n")
                    with caller_socket:
                        caller_socket.settimeout(2)
                        _answer(caller_socket)


def _answer(caller: socket.socket) -> None:
    try:
        caller.recv(4096)
        caller.sendall(ANSWER)
    except OSError:
        return  # it was caught; what it does then is its own matter


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [int(each) for each in sys.argv[3:]])
