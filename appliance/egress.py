"""What the appliance's processes are connected to, as the kernel lists it; and whether all of it is declared.

Nothing is sent to find out. A socket that this page does not know is a finding: deny by default.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

LISTENS: Final = "0A"  # TCP_LISTEN in /proc/net/tcp (proc_net_tcp.rst)
_TABLES: Final = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6")
_LOCAL_TABLES: Final = {"unix": 6, "netlink": 9}  # where the inode stands in a line
_MAX_TABLE_BYTES: Final = 64 << 20
_EXPORTERS: Final = ("OTEL_", "FASTAPI_OTEL_", "SENTRY_")
_ENDPOINTS: Final = frozenset({"HF_ENDPOINT", "SSLKEYLOGFILE"})
_LOOKS: Final = 5  # a socket that closes between two looks is in none of the tables

Address = tuple[str, int]  # a numeric address and a port


class Level(StrEnum):
    """How a line is told."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Socket:
    """One socket of one process."""

    pid: int
    kind: str  # a table of /proc/net, or "other"
    local: Address
    peer: Address
    is_listener: bool = False


@dataclass(frozen=True, slots=True)
class Declared:
    """What the configuration says that there is."""

    listeners: Collection[int]  # ports of the API and the console
    database: Address | None = None  # of a PostgreSQL server; the host as it is written


@dataclass(frozen=True, slots=True)
class Finding:
    """One line about what was found."""

    level: Level
    says: str


def processes(gateway: int, proc: Path = Path("/proc")) -> list[int]:
    """The gateway and everything that it started, as far as they live."""
    found = [gateway]
    for pid in found:
        try:
            tasks = list((proc / str(pid) / "task").iterdir())
        except FileNotFoundError:
            continue
        for task in tasks:
            try:
                found += [int(each) for each in (task / "children").read_text().split()]
            except FileNotFoundError:
                continue
    return found


def sockets(pids: Iterable[int], proc: Path = Path("/proc")) -> list[Socket]:
    """Every socket of these processes, but those that stay on the host (unix, netlink).

    PermissionError where a process is not to be seen: run as root.
    """
    found: list[Socket] = []
    for pid in pids:
        for _ in range(_LOOKS):
            known, unknown = _of_one(pid, proc)
            if not unknown:
                break
        found += [*known, *unknown]
    return found


def _of_one(pid: int, proc: Path) -> tuple[list[Socket], list[Socket]]:
    """Sockets that a table tells of, and those of which none does: of another family, or just closed."""
    inodes = _inodes(proc / str(pid) / "fd")
    tables = proc / str(pid) / "net"
    known = []
    for name in _TABLES:
        for inode, local, peer, state in _rows(tables / name):
            if inode in inodes:
                inodes.discard(inode)
                known.append(Socket(pid, name, local, peer, is_listener=state == LISTENS))
    for name, column in _LOCAL_TABLES.items():
        inodes -= _column(tables / name, column)
    return known, [Socket(pid, "other", ("", 0), ("", 0)) for _ in inodes]


def judge(found: Iterable[Socket], declared: Declared) -> list[Finding]:
    """What is declared is fine; whatever else there is, is named. Pure."""
    lines: list[Finding] = []
    callers = 0
    for each in found:
        if each.kind == "other":
            lines.append(Finding(Level.FAIL, f"process {each.pid} has a socket of an unknown family"))
        elif each.is_listener and each.kind.startswith("tcp"):
            known = each.local[1] in declared.listeners
            says = f"process {each.pid} listens on {_text(each.local)}"
            lines.append(Finding(Level.OK if known else Level.FAIL, says + ("" if known else ", undeclared")))
        elif each.kind.startswith("tcp") and each.local[1] in declared.listeners:
            callers += 1
        elif each.kind.startswith("tcp") and _is_database(each.peer, declared.database):
            lines.append(
                Finding(Level.OK, f"process {each.pid} speaks to the database at {_text(each.peer)}")
            )
        else:
            says = f"process {each.pid} has a {each.kind} socket, {_text(each.local)} to {_text(each.peer)}"
            lines.append(Finding(Level.FAIL, says))
    return [*lines, Finding(Level.OK, f"{callers} connections of callers")]


def routes(net: Path = Path("/proc/net")) -> list[Finding]:
    """Whether this host could reach beyond its own networks, if a process wanted to."""
    lines = _lines(net / "route")[1:]
    default = [line.split()[0] for line in lines if line.split()[1:8:6] == ["00000000", "00000000"]]
    default += [
        line.split()[9]
        for line in _lines(net / "ipv6_route")
        if line.split()[:2] == ["0" * 32, "00"] and line.split()[9] != "lo"
    ]
    if default:
        names = ", ".join(sorted(set(default)))
        says = f"this host has a default route ({names}): only its firewall keeps other programs from leaving"
        return [Finding(Level.WARN, says)]
    return [Finding(Level.OK, "no default route")]


def switches(environment: Mapping[str, str]) -> list[Finding]:
    """Variables of a process that send libraries elsewhere: proxies, endpoints, exporters of telemetry.

    Their values are not told.
    """
    names = sorted(
        name
        for name, value in environment.items()
        if value
        and (name.lower().endswith("_proxy") or name.startswith(_EXPORTERS) or name in _ENDPOINTS)
        and name.lower() != "no_proxy"
    )
    return [Finding(Level.FAIL, f"the gateway's environment has {name}") for name in names] or [
        Finding(Level.OK, "no proxy and no foreign endpoint in the gateway's environment")
    ]


def environment_of(pid: int, proc: Path = Path("/proc")) -> dict[str, str]:
    """What a process was started with."""
    pairs = (proc / str(pid) / "environ").read_bytes().split(b"\0")
    texts = (os.fsdecode(each).partition("=") for each in pairs if each)
    return {name: value for name, _, value in texts}


def _is_database(peer: Address, database: Address | None) -> bool:
    """The server that the configuration names: by its address, or where it is a name, by its port."""
    if database is None or peer[1] != database[1]:
        return False
    try:
        return ipaddress.ip_address(peer[0]) == ipaddress.ip_address(database[0])
    except ValueError:
        return True


def _inodes(folder: Path) -> set[int]:
    found: set[int] = set()
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:  # it has ended
        return found
    for entry in entries:
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def _rows(table: Path) -> Iterable[tuple[int, Address, Address, str]]:
    for line in _lines(table)[1:]:
        fields = line.split()
        yield int(fields[9]), _address(fields[1]), _address(fields[2]), fields[3]


def _column(table: Path, column: int) -> set[int]:
    return {int(fields[column]) for line in _lines(table)[1:] if len(fields := line.split()) > column}


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TABLE_BYTES).decode("ascii", "replace").splitlines()
    except FileNotFoundError:  # a protocol that this kernel does not speak
        return []


def _address(text: str) -> Address:
    """`0100007F:1F90` → 127.0.0.1, 8080: words of four bytes, each in the host's order (little-endian)."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    turned = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    found = ipaddress.ip_address(turned)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found), int(port, 16)


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
