"""The same port over TLS: handshakes in time, a bounded crowd, and the same strict reading behind it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from tests import wire
from tests.harness import Gateway, gateway, wait_until
from tests.integration.test_listening import GET, MALFORMED, TOO_LARGE
from tests.integration.test_tls import Site

pytestmark = pytest.mark.integration
LIMITS = "header_timeout_seconds = 3\nkeep_alive_seconds = 1\nmax_connections_per_address = 40\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("tls"))
    made.issue()
    return made


@pytest.fixture(scope="module")
def running(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    toml = f"{site.toml}{LIMITS}[audit]\nrefusal_burst = 10000\n"
    with gateway(tmp_path_factory.mktemp("served") / "home", toml=toml) as started:
        yield started


def plain(running: Gateway) -> socket.socket:
    """A connection without a handshake."""
    return wire.connect(running.url.replace("https", "http"))


def refusals(running: Gateway, code: str) -> int:
    found = query.search(running.home.database, kind=Kind.REQUEST_REFUSED, limit=1000)
    return sum(int(each.public["count"]) for each in found if each.public["code"] == code)


def open_files(running: Gateway) -> int:
    return len(list(Path(f"/proc/{running.pid}/fd").iterdir()))


def test_what_can_be_read_in_two_ways_is_not_read(running: Gateway, site: Site) -> None:
    """Cases of the plain port, with the same answers and as many records."""
    some = dict(list(MALFORMED.items())[::8])  # each connection lingers for as long as its client may read
    before = refusals(running, "malformed_request")
    for case, data in some.items():
        (answer,) = wire.send(running.url, data + GET + b"\r\n", context=site.context)
        assert (answer.status, answer.code) == (400, "malformed_request"), case
    for case, (data, status, code) in list(TOO_LARGE.items())[::2]:
        (answer,) = wire.send(running.url, data, context=site.context)
        assert (answer.status, answer.code) == (status, code), case

    assert refusals(running, "malformed_request") == before + len(some)


def test_what_is_no_handshake_is_on_the_record(running: Gateway) -> None:
    """Plain HTTP and noise get no answer and no route."""
    before = refusals(running, "tls_failed")
    for noise in (GET + b"\r\n", b"\0" * 64, b"\x16\x03\x01\x00\x05hello"):
        with plain(running) as sock:
            sock.sendall(noise)
            assert b"HTTP/" not in wire.read_all(sock)

    wait_until(lambda: refusals(running, "tls_failed") == before + 3)


def test_half_open_handshakes_end_and_leave_nothing_behind(running: Gateway, site: Site) -> None:
    """200 that say nothing, as many at once as may come: one more is closed at once, and recorded."""
    at_rest = open_files(running)
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(plain(running)) for _ in range(40)]
            before = refusals(running, "too_many_connections")
            # Who was here before may have had a place until now, and one of these none.
            while not is_sent_away(running, site):
                silent.append(stack.enter_context(plain(running)))
            wait_until(lambda known=before: refusals(running, "too_many_connections") > known)
            assert {wire.read_all(each) for each in silent} == {b""}
        wait_until(lambda: open_files(running) <= at_rest)

    (answer,) = wire.send(running.url, GET + b"connection: close\r\n\r\n", context=site.context)
    assert answer.status == 200


def is_sent_away(running: Gateway, site: Site) -> bool:
    try:
        wire.connect(running.url, context=site.context).close()
    except (ssl.SSLError, ConnectionError):
        return True
    return False
