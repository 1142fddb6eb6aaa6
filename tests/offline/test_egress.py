"""The three proofs that nothing leaves, and for each what turns it red."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.offline import egress
from tests.offline.box import box
from tests.offline.lan import HUB_PORT, OUTSIDE, PEER, TEMPTING, lan
from tests.offline.roots import SYSTEMS, System

pytestmark = pytest.mark.timeout(120)

# Connections that programs make without being asked: a telemetry, a time server, a name.
LEAK = f"""
import socket
for family, address in ((socket.AF_INET, ("{OUTSIDE}", 443)), (socket.AF_INET6, ("2001:db8:1::7", 443))):
    with socket.socket(family) as sock:
        sock.settimeout(2)
        print(sock.connect_ex(address))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for send in (
        lambda: sock.sendto(b"payload", ("{OUTSIDE}", 123)),
        lambda: sock.sendmsg([b"sa_family=AF_INET"], [], 0, ("{OUTSIDE}", 124)),
        lambda: socket.getaddrinfo("leak.example", 80),
    ):
        try:
            print(send())
        except OSError as error:
            print(error)
"""
HARMLESS = """
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    with socket.create_connection(listener.getsockname()) as sock:
        sock.sendall(b'connect(3, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("192.0.2.1")}')
one, other = socket.socketpair()
one.sendmsg([b"x"])
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
    sock.connect((0, 0))
print(sorted(each[4][0] for each in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)))
"""
REACHES = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    print(sock.connect_ex(("{OUTSIDE}", 9)))
"""
FETCH = """
import urllib.request
try:
    urllib.request.urlopen("http://models.example/weights", timeout=5)
except OSError as error:
    print(error)
"""
ENETUNREACH = 101


@pytest.fixture
def root(root_of: dict[System, Path]) -> Path:
    return root_of[SYSTEMS[0]]


def test_a_box_has_no_route(root: Path, tmp_path: Path) -> None:
    """Layer 1: the kernel itself says that there is no way out."""
    with box([root], tmp_path / "box") as made:
        assert made.python(REACHES).out.split() == [str(ENETUNREACH)]


def test_a_box_with_a_route_is_told_apart(root: Path, tmp_path: Path) -> None:
    """Layer 1 turns red: the same question in a box with a default route."""
    with box([root], tmp_path / "box") as made, lan(made, tmp_path / "events"):
        assert made.python(REACHES).out.split() == ["0"]


def test_local_traffic_is_no_egress(root: Path, tmp_path: Path) -> None:
    """Layer 2: loopback, netlink, local names and content that looks like a call are not counted."""
    with box([root], tmp_path / "box", trace=tmp_path / "trace") as made:
        assert made.python(HARMLESS).out == "['127.0.0.1', '::1']\n"

    assert egress.num_calls(made.traces()[0]) >= 3
    assert egress.foreign(made.traces()[0]) == []


def test_every_attempt_to_leave_is_seen(root: Path, tmp_path: Path) -> None:
    """Layer 2 turns red though nothing can leave: TCP, UDP, IPv6, names; in a daemon."""
    with box([root], tmp_path / "box", trace=tmp_path / "trace") as made:
        (made.root / "etc/resolv.conf").write_text(f"nameserver {PEER}\noptions timeout:1 attempts:1\n")
        (made.root / "run/leak.py").write_text(LEAK)
        daemon = "start-stop-daemon --start --background --exec /usr/bin/python3 -- -c"
        wrapped = "import runpy; runpy.run_path('/run/leak.py'); open('/run/done', 'w')"
        made.run("sh", "-c", f'{daemon} "{wrapped}"; while [ ! -e /run/done ]; do sleep 0.05; done')

    assert set(egress.foreign(made.traces()[0])) == {
        f"connect {PEER} 53",
        "connect 2001:db8:1::7 443",
        f"connect {OUTSIDE} 443",
        f"sendmsg {OUTSIDE} 124",
        f"sendto {OUTSIDE} 123",
    }


def test_a_question_to_a_local_name_server_is_egress(root: Path, tmp_path: Path) -> None:
    """Layer 2: names asked of a stub resolver leave through it."""
    with box([root], tmp_path / "box", trace=tmp_path / "trace") as made:
        made.python('import socket\ntry: socket.getaddrinfo("leak.example", 80)\nexcept OSError: pass')

    assert egress.foreign(made.traces()[0]) == ["connect 127.0.0.1 53"]


def test_what_leaves_is_counted_and_caught(root: Path, tmp_path: Path) -> None:
    """Layer 3 turns red: each packet that leaves is counted, and the trap caught names and callers."""
    with box([root], tmp_path / "box") as made, lan(made, tmp_path / "events") as network:
        made.python(HARMLESS)
        quiet, nobody = network.counters(), network.caught()
        made.python(LEAK)
        leaked, caught = network.counters(), network.caught()

    assert (quiet["leak"], quiet["lan"], nobody) == (0, 0, [])
    assert quiet["local"] > 0
    assert leaked["leak"] >= 5
    assert "name leak.example" in caught
    assert "connection to port 443" in caught


def test_a_proxy_that_the_environment_names_is_a_trap(root: Path, tmp_path: Path) -> None:
    """Layer 3: a library that follows HTTP_PROXY is caught, and so is one that follows HF_ENDPOINT."""
    with box([root], tmp_path / "box") as made, lan(made, tmp_path / "events") as network:
        made.run("python3", "-", stdin=FETCH, env=TEMPTING)
        hub = FETCH.replace("http://models.example", TEMPTING["HF_ENDPOINT"])
        made.run("python3", "-", stdin=hub, env={**TEMPTING, "no_proxy": PEER})

        assert network.caught() == ["connection to port 3128", f"connection to port {HUB_PORT}"]
        assert network.counters()["leak"] > 0


def test_a_caller_in_the_lan_is_no_leak(root: Path, tmp_path: Path) -> None:
    """Layer 3: answers to a kiosk of the same network are counted apart."""
    serve = (
        "import socket\nwith socket.create_server(('0.0.0.0', 8080)) as s: s.accept()[0].sendall(b'hello')"
    )
    call = (
        "import socket, time\nfor _ in range(100):\n"
        f"    try: print(socket.create_connection(('{'192.0.2.2'}', 8080), 2).recv(9)); break\n"
        "    except OSError: time.sleep(0.05)"
    )
    with box([root], tmp_path / "box") as made, lan(made, tmp_path / "events") as network:
        made.begin("python3", "-c", serve)
        assert network.python(call) == "b'hello'\n"
        counted = network.counters()

    assert counted["lan"] > 0
    assert counted["leak"] == 0
