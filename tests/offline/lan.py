"""A network with somewhere to leak to: the box, a peer in its LAN, and a default route beyond it.

Both ends live in network namespaces of their own. The peer answers for every address outside: there a trap
waits. What leaves the box is counted by nftables, by where it goes.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.offline.box import PATH, Box, Running

# Documentation's addresses (RFC 5737, RFC 3849): they belong to nobody.
BOX: Final = "192.0.2.2"
PEER: Final = "192.0.2.1"
OUTSIDE: Final = "198.51.100.7"
BOX6: Final = "2001:db8::2"
PEER6: Final = "2001:db8::1"
PROXY_PORT: Final = 3128
RESOLVER: Final = "/etc/resolv.conf"  # in the box: it names the peer
HUB_PORT: Final = 3129
PORTS: Final = (80, 443, PROXY_PORT, HUB_PORT)
# An environment that invites every habit of fetching.
TEMPTING: Final = {
    "http_proxy": f"http://{PEER}:{PROXY_PORT}",
    "https_proxy": f"http://{PEER}:{PROXY_PORT}",
    "HTTP_PROXY": f"http://{PEER}:{PROXY_PORT}",
    "HTTPS_PROXY": f"http://{PEER}:{PROXY_PORT}",
    "ALL_PROXY": f"http://{PEER}:{PROXY_PORT}",
    "HF_ENDPOINT": f"http://{PEER}:{HUB_PORT}",
    "PIP_INDEX_URL": f"http://{PEER}:{HUB_PORT}/simple",
    "PIP_EXTRA_INDEX_URL": f"http://{OUTSIDE}/simple",
    "PIP_TRUSTED_HOST": f"{PEER} {OUTSIDE}",
}
# Questions for names are a leak wherever they go; neighbour discovery is how a LAN works.
_RULES: Final = f"""
table inet egress {{
  counter leak {{ }}
  counter lan {{ }}
  counter neighbours {{ }}
  counter local {{ }}
  chain output {{
    type filter hook output priority 0; policy accept;
    udp dport 53 counter name leak return
    tcp dport 53 counter name leak return
    oif lo counter name local return
    icmpv6 type {{ 130, 131, 132, 133, 134, 135, 136, 143 }} counter name neighbours return
    ip daddr {PEER}/32 tcp dport != {{ 80, 443, {PROXY_PORT}, {HUB_PORT} }} counter name lan return
    ip6 daddr {PEER6}/128 tcp dport != {{ 80, 443, {PROXY_PORT}, {HUB_PORT} }} counter name lan return
    counter name leak
  }}
}}
"""


@dataclass
class Lan:
    """The peer's namespace, and what its trap has caught."""

    box: Box
    pid: int
    events: Path
    _begun: list[Running] = field(default_factory=list)

    def caught(self) -> list[str]:
        """Each name that was asked for, each connection to a door of the trap."""
        return self.events.read_text(encoding="utf-8").splitlines()

    def counters(self) -> dict[str, int]:
        """Packets that left the box, by where to: leak, lan, neighbours, local."""
        text = _enter(self.box.pid, "nft", "-j", "list", "counters")
        listed = [each["counter"] for each in json.loads(text)["nftables"] if "counter" in each]
        return {each["name"]: int(each["packets"]) for each in listed}

    def python(self, script: str, *arguments: str, seconds: float = 60) -> str:
        """Run a script of this host's Python as a machine in the box's LAN would."""
        return _enter(self.pid, sys.executable, "-I", "-", *arguments, stdin=script, seconds=seconds)

    def begin(self, program: Path, *arguments: str, output: Path) -> Running:
        """Start a program of this host's Python in the LAN and go on; its output is a file."""
        with output.open("wb") as out, output.with_suffix(".err").open("wb") as err:
            process = subprocess.Popen(
                [
                    *("nsenter", f"--target={self.pid}", "--net", "--", sys.executable, "-I"),
                    *(str(program), *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={"PATH": PATH},
            )
        running = Running(process, output)
        self._begun.append(running)
        return running


@contextlib.contextmanager
def lan(box: Box, events: Path) -> Iterator[Lan]:
    """Connect a running box to a peer, count what leaves it, and lay the trap."""
    events.touch()
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo ready; exec cat > /dev/null"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": PATH},
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    try:
        _connect(box, holder.pid)
        _enter(box.pid, "nft", "-f", "-", stdin=_RULES)
        trap = subprocess.Popen(
            [
                *("nsenter", f"--target={holder.pid}", "--net", "--", sys.executable, "-I"),
                *(str(Path(__file__).with_name("trap.py")), str(events), OUTSIDE, *map(str, PORTS)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": PATH},
        )
        assert trap.stdin is not None
        assert trap.stdout is not None
        try:
            assert trap.stdout.readline() == b"ready\n"
            made = Lan(box, holder.pid, events)
            try:
                yield made
            finally:
                for each in made._begun:
                    each.process.kill()
                    each.process.wait(10)
        finally:
            trap.stdin.close()
            trap.wait(10)
            trap.stdout.close()
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()


def _connect(box: Box, peer: int) -> None:
    for command in (
        f"ip link add box netns {box.pid} type veth peer name lan netns {peer}",
        f"nsenter --target={peer} --net -- ip link set lo up",
        f"nsenter --target={peer} --net -- ip address add {PEER}/24 dev lan",
        f"nsenter --target={peer} --net -- ip -6 address add {PEER6}/64 dev lan nodad",
        f"nsenter --target={peer} --net -- ip address add {OUTSIDE}/32 dev lo",
        f"nsenter --target={peer} --net -- ip link set lan up",
        f"nsenter --target={box.pid} --net -- ip address add {BOX}/24 dev box",
        f"nsenter --target={box.pid} --net -- ip -6 address add {BOX6}/64 dev box nodad",
        f"nsenter --target={box.pid} --net -- ip link set box up",
        f"nsenter --target={box.pid} --net -- ip route add default via {PEER}",
        f"nsenter --target={box.pid} --net -- ip -6 route add default via {PEER6}",
    ):
        subprocess.run(command.split(), check=True, env={"PATH": PATH}, timeout=20)
    Path(f"{box.root}{RESOLVER}").write_text(
        f"nameserver {PEER}\noptions timeout:1 attempts:1\n", encoding="ascii"
    )


def _enter(pid: int, *command: str, stdin: str = "", seconds: float = 20) -> str:
    done = subprocess.run(
        ["nsenter", f"--target={pid}", "--net", "--", *command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={"PATH": PATH},
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout
