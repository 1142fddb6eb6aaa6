"""Nothing leaves: a whole life in a network with somewhere to leak to, and what turns it red.

The gateway runs in a network namespace with a default route, among proxies, exporters and hubs that its
environment names; outside, every name is known and every port answers. What left is counted twice
(tests/fault/world.py). Bundles and bare hosts have their own proofs (tests/offline).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from appliance.config import Home
from appliance.tls import certificates
from tests.fault.world import API_PORT, BOX, CONSOLE_PORT, LEAKY, ROOT, World, world
from tests.harness import PROGRAM, Gateway, keep_tuning
from tests.homes import make_home
from tests.records import assert_verified

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TOML = f"""
[server]
host = "{BOX}"
tls_certificate = "{{folder}}/server.crt"
tls_key = "{{folder}}/server.key"
[console]
host = "{BOX}"
"""


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "world"
    folder.mkdir()
    with world(folder) as made:
        yield made


def home_with_certificate(folder: Path) -> Home:
    site = folder / "tls"
    site.mkdir()
    now = datetime.now(UTC).replace(microsecond=0)
    authority = certificates.new_authority("Tax office", ["192.0.2.0/24"], now=now)
    pair = certificates.issue(authority, [BOX], now=now, days=30)
    (site / "ca.crt").write_bytes(authority.certificate)
    (site / "server.crt").write_bytes(pair.certificate)
    (site / "server.key").write_bytes(pair.key)
    return make_home(folder / "home", toml=TOML.format(folder=site))


def serving(outside: World, home: Home, worker: Literal["fake", "model"], **variables: str) -> Gateway:
    ports = ("--port", str(API_PORT), "--console-port", str(CONSOLE_PORT))
    if worker == "fake":
        program = outside.in_box(sys.executable, "-m", "tests.fakes.serve", *ports, **variables)
    else:
        keep_tuning(home)
        program = outside.in_box(str(PROGRAM), "serve", *ports, **variables)
    return Gateway(home=home, program=program)


def told(outside: World, command: list[str], *, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode in codes, f"{done.stdout}\n{done.stderr}"
    outside.quiet()
    return done.stdout


@pytest.mark.parametrize("worker", ["fake", pytest.param("model", marks=pytest.mark.model)])
def test_nothing_leaves_in_a_whole_life(
    outside: World, tmp_path: Path, worker: Literal["fake", "model"]
) -> None:
    """Start, every kind of question, the record, the console, the host's program, stop: nobody was called."""
    home = home_with_certificate(tmp_path)
    running = serving(outside, home, worker).start()
    try:
        authority = str(tmp_path / "tls" / "ca.crt")
        day = [sys.executable, "-m", "tests.fault.life", str(home.root), running.url, running.console_url]
        done = json.loads(told(outside, outside.in_lan(*day, SSL_CERT_FILE=authority)))
        for words in (
            "audit verify", "audit search --limit 5", "audit show 1", "audit witness status", "auditor list",
            "key list", "model verify default", "db backup", "db status", "doctor --live",
        ):  # fmt: skip
            told(outside, outside.in_box(str(PROGRAM), *words.split(), "--home", str(home.root)))
        told(outside, outside.in_box(str(PROGRAM), "doctor", "--home", str(home.root)), codes=(0, 1))
        looked = json.loads(
            told(
                outside,
                outside.in_box(str(PROGRAM), "doctor", "--egress", "--json", "--home", str(home.root)),
                codes=(1,),
            )
        )["checks"]
    finally:
        running.stop()
    outside.quiet()

    assert outside.leaks() == []
    counters = outside.counters()
    assert counters["leak"] == 0
    assert counters["callers"] > 100
    assert [each for each in done if each.split()[-1].startswith("5")] == []
    assert done["streamed [DONE]"] == done["tools 200"] == done["nobody 401"] == 1
    assert done["page 2xx"] > 20
    # Its sockets are all declared; the bait in its environment is told, by names alone.
    red = {each["name"] for each in looked if each["level"] == "fail"}
    assert red == {"variables"}
    assert_verified(home)


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("name", "name updates.example"),
        ("tcp", f"packet tcp {BOX} "),
        ("tcp6", "packet tcp 2001:db8::2 "),
        ("udp", f"packet udp {BOX} "),
    ],
)
def test_a_release_that_calls_home_is_red(outside: World, tmp_path: Path, kind: str, seen: str) -> None:
    """Each alone: one question for a name, one connection, one datagram at its start."""
    leaky = {"PYTHONPATH": f"{LEAKY}:{ROOT}", "LEAK": kind}
    running = serving(outside, home_with_certificate(tmp_path), "fake", **leaky)
    try:
        running.start()
    finally:
        running.stop()
    outside.quiet()

    assert any(each.startswith(seen) for each in outside.leaks())
    assert outside.counters()["leak"] > 0


def test_an_honest_release_that_only_starts_is_green(outside: World, tmp_path: Path) -> None:
    """The control of the controls: the same without the call."""
    running = serving(outside, home_with_certificate(tmp_path), "fake")
    try:
        running.start()
    finally:
        running.stop()
    outside.quiet()

    assert (outside.leaks(), outside.counters()["leak"]) == ([], 0)
