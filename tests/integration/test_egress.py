"""`appliance doctor --egress` beside a running gateway, and a gateway that calls somebody."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

from tests.harness import Gateway, appliance, gateway, question
from tests.homes import make_home

# A release that calls home: the gateway of the tests, with a connection of its own to somebody on this host.
CALLS = """
import runpy, socket
peer = socket.create_connection(("127.0.0.1", {port}))
runpy.run_module("tests.fakes.serve", run_name="__main__")
"""


def told(running: Gateway) -> tuple[int, list[dict[str, str]]]:
    ports = (each.rsplit(":", 1)[1] for each in (running.url, running.console_url))
    declared = [word for port in ports for word in ("--declare", port)]
    done = appliance("doctor", "--egress", "--json", *declared, home=running.home, check=False)
    return done.returncode, json.loads(done.stdout)["checks"]


def test_only_listeners_and_callers_are_found(tmp_path: Path) -> None:
    """Two declared listeners, a caller, and nothing else, of the gateway and its worker."""
    with gateway(tmp_path / "home") as running, running.client() as client:
        assert client.post("/v1/chat/completions", json=question("echo: a")).status_code == 200
        code, checks = told(running)
        undeclared = appliance("doctor", "--egress", home=running.home, check=False)

    assert code == 0
    says = [each["says"] for each in checks if each["name"] == "sockets"]
    assert sum("listens on" in each for each in says) == 2
    assert "1 connections of callers" in says
    assert (undeclared.returncode, undeclared.stdout.count("undeclared")) == (1, 2)


def test_a_gateway_that_calls_somebody_is_red(tmp_path: Path) -> None:
    """Its control: the same gateway with one connection more."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        program = tmp_path / "calls.py"
        program.write_text(CALLS.format(port=port))
        running = Gateway(home=make_home(tmp_path / "home"), program=[sys.executable, str(program)])
        try:
            running.start()
            code, checks = told(running)
        finally:
            running.stop()

    assert code == 1
    red = [each["says"] for each in checks if each["level"] == "fail"]
    assert len(red) == 1
    assert f"127.0.0.1:{port}" in red[0]


def test_without_a_gateway_it_says_so(tmp_path: Path) -> None:
    """3, and what to do."""
    with gateway(tmp_path / "home") as running:
        pass
    done = appliance("doctor", "--egress", home=running.home, check=False)

    assert (done.returncode, "no gateway runs" in done.stderr) == (3, True)
