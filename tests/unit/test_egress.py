"""Sockets of processes as the kernel lists them: what is declared, and what turns it red."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance import egress
from appliance.egress import Declared, Level, Socket

HERE = os.getpid()
LOOPBACK, ANY = "127.0.0.1", "0.0.0.0"  # noqa: S104 - as the kernel lists it


def test_own_sockets_are_found_with_both_ends() -> None:
    """A listener, a caller and a datagram socket of this very process; unix sockets stay on the host."""
    with (
        socket.create_server((LOOPBACK, 0)) as listener,
        socket.create_connection(listener.getsockname()) as caller,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as six,
    ):
        accepted, _ = listener.accept()
        datagrams.bind((LOOPBACK, 0))
        six.bind(("::1", 0))
        six.listen()
        one, other = socket.socketpair()
        with accepted, one, other:
            found = set(egress.sockets([HERE]))

            port = listener.getsockname()
            assert Socket(HERE, "tcp", port, (ANY, 0), is_listener=True) in found
            assert Socket(HERE, "tcp", caller.getsockname(), port) in found
            assert Socket(HERE, "tcp", port, caller.getsockname()) in found
            assert Socket(HERE, "udp", datagrams.getsockname(), (ANY, 0)) in found
            assert Socket(HERE, "tcp6", six.getsockname()[:2], ("::", 0), is_listener=True) in found
            assert "other" not in {each.kind for each in found}


def levels(found: list[Socket], declared: Declared) -> list[Level]:
    return [each.level for each in egress.judge(found, declared)][:-1]


DECLARED = Declared({8080, 8090}, ("10.0.0.5", 5432))


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (Socket(1, "tcp", (LOOPBACK, 8080), (ANY, 0), is_listener=True), Level.OK),
        (Socket(1, "tcp6", ("::", 8090), ("::", 0), is_listener=True), Level.OK),
        (Socket(1, "tcp", (ANY, 9999), (ANY, 0), is_listener=True), Level.FAIL),
        (Socket(1, "tcp", ("10.0.0.1", 40000), ("10.0.0.5", 5432)), Level.OK),
        (Socket(1, "tcp", ("10.0.0.1", 40000), ("10.0.0.6", 5432)), Level.FAIL),
        (Socket(1, "tcp", ("10.0.0.1", 40000), ("203.0.113.9", 443)), Level.FAIL),
        (Socket(1, "tcp", (LOOPBACK, 40000), (LOOPBACK, 11434)), Level.FAIL),
        (Socket(1, "udp", (ANY, 40000), ("203.0.113.9", 53)), Level.FAIL),
        (Socket(1, "udp", (ANY, 8080), (ANY, 0)), Level.FAIL),
        (Socket(1, "raw", (ANY, 1), (ANY, 0)), Level.FAIL),
        (Socket(1, "other", ("", 0), ("", 0)), Level.FAIL),
    ],
)
def test_only_what_is_declared_is_fine(found: Socket, level: Level) -> None:
    """Also on loopback: another service of this host could carry things out."""
    assert levels([found], DECLARED) == [level]


def test_callers_are_counted_and_named_nowhere() -> None:
    """Who calls is sealed on the record."""
    told = egress.judge([Socket(1, "tcp", (LOOPBACK, 8080), ("10.0.0.77", 5000))] * 3, DECLARED)

    assert [(each.level, each.says) for each in told] == [(Level.OK, "3 connections of callers")]


def test_a_database_by_name_is_known_by_its_port() -> None:
    """A name is not looked up: that would be a question to somebody."""
    found = Socket(1, "tcp", ("10.0.0.1", 40000), ("10.9.9.9", 5432))

    assert levels([found], Declared({8080}, ("db.tax.example", 5432))) == [Level.OK]
    assert levels([found], Declared({8080})) == [Level.FAIL]


def table(folder: Path, name: str, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")


def test_default_routes_are_told(tmp_path: Path) -> None:
    """Of either protocol; the one that IPv6 keeps on loopback is none."""
    nowhere = (
        "0" * 32 + " 00 " + "0" * 32 + " 00 " + "0" * 32 + " ffffffff 00000001 00000000 00200200       lo"
    )
    table(
        tmp_path,
        "route",
        "Iface Destination Gateway Flags RefCnt Use Metric Mask",
        "eth0 0000000A 0 1 0 0 0 000000FF",
    )
    table(tmp_path, "ipv6_route", nowhere)
    assert [each.level for each in egress.routes(tmp_path)] == [Level.OK]

    table(tmp_path, "route", "Iface …", "eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0")
    assert "eth0" in egress.routes(tmp_path)[0].says
    assert egress.routes(tmp_path)[0].level is Level.WARN


def test_proxies_in_the_environment_are_named_without_their_values() -> None:
    """A password can stand in there."""
    told = egress.switches(
        {"https_proxy": "http://u:secret@proxy", "HF_ENDPOINT": "x", "no_proxy": "*", "A": "b"}
    )

    assert [each.level for each in told] == [Level.FAIL, Level.FAIL]
    assert "secret" not in repr(told)
    assert [each.level for each in egress.switches({"HTTP_PROXY": ""})] == [Level.OK]


@pytest.mark.parametrize(
    "name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "FASTAPI_OTEL_AUTO_CONFIGURE", "SENTRY_DSN", "SSLKEYLOGFILE"]
)
def test_exporters_in_the_environment_are_red(name: str) -> None:
    """What a library would tell somebody, it is told to by its environment."""
    assert [each.level for each in egress.switches({name: "x"})] == [Level.FAIL]
