"""What waits outside: a name server that knows every name, a server behind every port, and a witness.

A program of its own, in the network namespace of the world: `python -m tests.fault.outside EVENTS INTERFACE`.
Every packet that comes in is a line of EVENTS, as it came off the wire: `tcp FROM PORT TO PORT`, `udp …`,
`neighbour` (how a LAN works: ARP, neighbour discovery, multicast reports), or what else it is. So is every
name that is asked for, and every connection. It ends when its standard input does.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys
from pathlib import Path
from typing import Final

from tests.offline.trap import answer_to, name_of

CATCH_ALL: Final = 1  # the port that every other one is redirected to
NAMES: Final = 53
ETH_P_ALL: Final = 3
ETH_ARP, ETH_IP, ETH_IP6 = 0x0806, 0x0800, 0x86DD
TCP, UDP, ICMP6, HOP_BY_HOP = 6, 17, 58, 0
NEIGHBOURS: Final = range(130, 144)  # ICMPv6: listener reports, solicitations, advertisements
_OWN: Final = socket.PACKET_OUTGOING


def told_of(protocol: int, packet: bytes) -> str:
    """One packet (from its network header on) as a line."""
    if protocol == ETH_ARP:
        return "neighbour"
    if protocol == ETH_IP:
        version, at = socket.AF_INET, (packet[0] & 15) * 4
        inner, ends = packet[9], (packet[12:16], packet[16:20])
    elif protocol == ETH_IP6:
        version, at, inner = socket.AF_INET6, 40, packet[6]
        ends = (packet[8:24], packet[24:40])
        if inner == HOP_BY_HOP:
            inner, at = packet[40], 40 + 8 * (packet[41] + 1)
        if inner == ICMP6 and packet[at] in NEIGHBOURS:
            return "neighbour"
    else:
        return f"frame {protocol:#06x}"
    source, target = (socket.inet_ntop(version, each) for each in ends)
    if inner in {TCP, UDP}:
        ports = struct.unpack_from(">HH", packet, at)
        return f"{'tcp' if inner == TCP else 'udp'} {source} {ports[0]} {target} {ports[1]}"
    return f"protocol {inner} {source} {target}"


def main(events: Path, interface: str) -> None:
    """Wait until standard input ends."""
    waiting = selectors.DefaultSelector()
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    wire.bind((interface, ETH_P_ALL))
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("0.0.0.0", NAMES))  # noqa: S104 - a network namespace of its own
    doors = socket.create_server(("0.0.0.0", CATCH_ALL))  # noqa: S104
    for each in (wire, names, doors, sys.stdin.buffer):
        waiting.register(each, selectors.EVENT_READ)
    with events.open("a", encoding="utf-8", buffering=1) as file:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in waiting.select():
                if key.fileobj is wire:
                    packet, (_, protocol, kind, *_rest) = wire.recvfrom(65536)
                    if kind != _OWN:
                        file.write(f"packet {told_of(protocol, packet)}\n")
                elif key.fileobj is names:
                    query, caller = names.recvfrom(4096)
                    file.write(f"name {name_of(query)}\n")
                    names.sendto(answer_to(query, "198.51.100.7"), caller)
                elif key.fileobj is doors:
                    accepted, _ = doors.accept()
                    file.write("connection\n")
                    accepted.close()
                elif not sys.stdin.buffer.read(1):
                    return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
