"""An appliance's network with somewhere to leak to: its own namespace, and the world at the other end.

A default route of both protocols, a name server that knows every name, and a server behind every address and
port. What leaves is counted twice: by nftables where it leaves the box, and off the wire where it arrives.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness import wait_until
from tests.needed import missing, need

# Documentation's addresses (RFC 5737, RFC 3849): they belong to nobody.
BOX: Final = "192.0.2.2"
PEER: Final = "192.0.2.1"
OUTSIDE: Final = "198.51.100.7"
OUTSIDE6: Final = "2001:db8:1::7"
API_PORT, CONSOLE_PORT = 8080, 8090
ROOT: Final = Path(__file__).resolve().parent.parent.parent
LEAKY: Final = Path(__file__).with_name("leaky")
PROXY: Final = f"http://{PEER}:3128"
# An environment that invites every habit of fetching and telling.
BAIT: Final = {
    **dict.fromkeys(
        ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), PROXY
    ),
    "HF_ENDPOINT": f"http://{PEER}:3129",
    "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{OUTSIDE}:4318",
    "OTEL_TRACES_EXPORTER": "otlp",
    "SENTRY_DSN": f"https://key@{OUTSIDE}/1",
    "PGHOST": OUTSIDE,
}
_RULES: Final = f"""
table inet egress {{
  counter leak {{ }}
  counter callers {{ }}
  counter neighbours {{ }}
  counter local {{ }}
  chain output {{
    type filter hook output priority 0; policy accept;
    meta l4proto {{ tcp, udp }} th dport 53 counter name leak return
    oif lo counter name local return
    icmpv6 type {{ 130, 131, 132, 133, 134, 135, 136, 143 }} counter name neighbours return
    ip daddr {PEER} tcp sport {{ {API_PORT}, {CONSOLE_PORT} }} counter name callers return
    counter name leak
  }}
}}
"""
_DOORS: Final = """
table inet doors {
  chain prerouting {
    type nat hook prerouting priority -100;
    meta l4proto tcp redirect to :1
  }
}
"""


@dataclass(frozen=True)
class World:
    """Two namespaces, by the processes that hold them open."""

    box: int
    peer: int
    events: Path

    def in_box(self, *command: str, **variables: str) -> list[str]:
        """How a program is run in the box: among all that bait, and without the tests' own guard."""
        return [*_into(self.box, "--net", "--mount"), *_environment(BAIT | variables), *command]

    def in_lan(self, *command: str, **variables: str) -> list[str]:
        """How a program is run on another machine of its LAN."""
        return [*_into(self.peer, "--net"), *_environment(variables), *command]

    def counters(self) -> dict[str, int]:
        """Packets that left the box, as it counted them itself."""
        text = _run(*_into(self.box, "--net"), "nft", "-j", "list", "counters")
        listed = [each["counter"] for each in json.loads(text)["nftables"] if "counter" in each]
        return {each["name"]: int(each["packets"]) for each in listed}

    def told(self) -> list[str]:
        """What arrived outside, line by line."""
        return self.events.read_text(encoding="utf-8").splitlines()

    def leaks(self) -> list[str]:
        """What arrived and is neither the LAN's own business nor an answer of a declared listener."""
        return sorted({each for each in self.told() if not _is_declared(each)})

    def quiet(self) -> None:
        """Wait until what is on the wire has been written down."""
        seen = -1

        def is_still() -> bool:
            nonlocal seen
            before, seen = seen, self.events.stat().st_size
            return before == seen

        wait_until(is_still)


def _is_declared(line: str) -> bool:
    words = line.split()
    if words[:2] == ["packet", "neighbour"]:
        return True
    ports = {str(API_PORT), str(CONSOLE_PORT)}
    return words[:3] == ["packet", "tcp", BOX] and words[3] in ports and words[4] == PEER


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Both namespaces, connected; skipped (in CI: failed) where they can not be made."""
    need("ip", package="iproute2")
    need("nft", package="nftables")
    if os.geteuid() != 0:
        missing("network namespaces are made by root")
    events = folder / "events"
    events.touch()
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {PEER}\noptions timeout:1 attempts:1\n", encoding="ascii")
    with (
        _holder("--net", "--mount", first=f"mount --bind {resolver} /etc/resolv.conf") as box,
        _holder("--net") as peer,
    ):
        made = World(box, peer, events)
        _connect(made)
        _run(*_into(box, "--net"), "nft", "-f", "-", stdin=_RULES)
        _run(*_into(peer, "--net"), "nft", "-f", "-", stdin=_DOORS)
        command = made.in_lan(sys.executable, "-m", "tests.fault.outside", str(events), "lan")
        with _waiting(command):
            yield made


def _connect(made: World) -> None:
    box, peer = (" ".join(_into(each, "--net")) for each in (made.box, made.peer))
    for command in (
        f"ip link add box netns {made.box} type veth peer name lan netns {made.peer}",
        f"{peer} ip link set lo up",
        f"{peer} ip address add {PEER}/24 dev lan",
        f"{peer} ip -6 address add 2001:db8::1/64 dev lan nodad",
        f"{peer} ip link set lan up",
        f"{box} ip link set lo up",
        f"{box} ip address add {BOX}/24 dev box",
        f"{box} ip -6 address add 2001:db8::2/64 dev box nodad",
        f"{box} ip link set box up",
        f"{box} ip route add default via {PEER}",
        f"{box} ip -6 route add default via 2001:db8::1",
    ):
        _run(*command.split())


@contextlib.contextmanager
def _holder(*kinds: str, first: str = "true") -> Iterator[int]:
    """A process whose namespaces are entered, for as long as it waits."""
    with _waiting(["unshare", *kinds, "sh", "-c", f"{first} && echo ready && exec cat > /dev/null"]) as pid:
        yield pid


@contextlib.contextmanager
def _waiting(command: Sequence[str]) -> Iterator[int]:
    """A program that says `ready`, and ends with its standard input."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            missing("a network namespace can not be made here")
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def _into(pid: int, *kinds: str) -> list[str]:
    return ["nsenter", f"--target={pid}", *kinds, "--"]


def _environment(variables: dict[str, str]) -> list[str]:
    kept = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root"), "PYTHONPATH": str(ROOT)}
    return ["env", "-i", *(f"{name}={value}" for name, value in (kept | variables).items())]


def _run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout
