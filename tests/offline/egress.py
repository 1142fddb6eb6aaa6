"""What programs tried to send to whom, as strace saw it: every address that is not this host's own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Every call that can name an address to send to. What a program sends on a connected socket goes where
# `connect` said; what it accepted, a caller of ours asked for.
CALLS: Final = "connect,sendto,sendmsg,sendmmsg"
OPTIONS: Final = ("-f", "-qq", "--seccomp-bpf", "-s", "0", "-e", f"trace={CALLS}", "-e", "signal=none")
_CALL = re.compile(rf"^(\d+) +({CALLS.replace(',', '|')})\(")
_FAMILY = re.compile(r"sa_family=(\w+)([^}]*)")
_ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
# Inside the kernel of this host, and the reset of a socket's peer.
_LOCAL_FAMILIES = frozenset({"AF_UNIX", "AF_NETLINK", "AF_UNSPEC"})
_NAMES = 53


def num_calls(trace: Path) -> int:
    """How many calls were seen at all: a trace of nothing proves nothing."""
    return sum(1 for line in _lines(trace) if _CALL.match(line))


def foreign(trace: Path) -> list[str]:
    """`call address port` of whatever was to leave this host; questions to any name server too."""
    return sorted({found for line in _lines(trace) if _CALL.match(line) for found in _foreign_of(line)})


def _lines(trace: Path) -> Iterable[str]:
    # -ff is not used: one file holds every process, in order.
    with trace.open(encoding="utf-8", errors="replace") as lines:
        yield from lines


def _foreign_of(line: str) -> Iterable[str]:
    matched = _CALL.match(line)
    call = matched[2] if matched else ""
    for family, rest in _FAMILY.findall(line):
        if family in _LOCAL_FAMILIES:
            continue
        address, port = _ADDRESS.search(rest), _PORT.search(rest)
        if address is None or port is None:
            yield f"{call} {family}"  # packets, virtual machines' sockets, whatever comes: not this host
            continue
        text, number = address[1] or address[2], int(port[1])
        if number == _NAMES or not _is_local(text):
            yield f"{call} {text} {number}"


def _is_local(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    chosen = mapped or address
    return bool(chosen.is_loopback or chosen.is_unspecified)  # Linux takes 0.0.0.0 for this host
