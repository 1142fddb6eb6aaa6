"""Heads as bytes: one reading, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.listening import head
from appliance.errors import RequestError

PLAIN = (
    b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: box:8080\r\nContent-Length: 12\r\nX-Name: a, b\r\n\r\n"
)


def code(raw: bytes) -> str:
    with pytest.raises(RequestError) as found:
        head.read(raw)
    return found.value.code


def test_a_plain_head_passes_as_it_is() -> None:
    """The parser gets what was sent, and the length of the body is known."""
    found = head.read(PLAIN)

    assert (found.raw, found.length, found.is_chunked) == (PLAIN, 12, False)


def test_chunks_are_told_apart_from_a_length() -> None:
    """RFC 9112 §6.1: the coding's name is read in any case."""
    found = head.read(b"POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n")

    assert (found.length, found.is_chunked) == (0, True)


def test_an_old_client_needs_no_host() -> None:
    """HTTP/1.0 knew none."""
    assert head.read(b"GET / HTTP/1.0\r\n\r\n").length == 0


def test_an_offer_of_http2_is_taken_out() -> None:
    """The parser would stop at it, and the body behind it would be lost."""
    raw = b"GET / HTTP/1.1\r\nhost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"

    assert head.read(raw).raw == b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize("host", ["box", "box:80", "10.1.2.3:8080", "[::1]", "[fd00::1]:8080", ""])
def test_hosts_that_are_some(host: str) -> None:
    """Names, addresses and ports."""
    assert head.read(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()).length == 0


@pytest.mark.parametrize("host", ["a b", "a/b", "user@box", "box:80:80", "box:99999999", "[::1", "bo\xfcx"])
def test_hosts_that_are_none(host: str) -> None:
    """What is no name, address or port is not believed to be one."""
    assert code(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode("latin-1")) == "malformed_request"


@pytest.mark.parametrize(
    "start", [b"GET /healthz\r\n", b"GET / HTTP/1.1\n", b"\x16\x03\x01", b"\0", b"G" * 9000 + b"\r\n"]
)
def test_what_can_not_become_a_head_is_known_at_once(start: bytes) -> None:
    """Nobody waits for the rest of it."""
    with pytest.raises(RequestError):
        head.check_start(start)


@pytest.mark.parametrize("start", [b"G", b"GET /heal", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nhost: a"])
def test_what_may_become_a_head_is_waited_for(start: bytes) -> None:
    """A head may come in pieces of any size."""
    head.check_start(start)


@given(st.binary(max_size=200), st.integers(0, len(PLAIN) - 4), st.integers(0, 20))
def test_whatever_comes_is_read_or_refused(noise: bytes, at: int, cut: int) -> None:
    """No bytes crash it; and what passes has one host, one length, and no line that folds."""
    raw = PLAIN[:at] + noise + PLAIN[at + cut :]
    raw = raw[: raw.find(head.END) + 4] if head.END in raw else raw + head.END
    try:
        found = head.read(raw[: raw.find(head.END) + 4])
    except RequestError:
        return
    lines = found.raw.removesuffix(head.END).split(b"\r\n")
    names = [each.partition(b":")[0].lower() for each in lines[1:]]
    assert names.count(b"content-length") <= 1
    assert names.count(b"host") == 1 or lines[0].endswith(b"HTTP/1.0")
    assert not any(each[:1] in b" \t" for each in lines if each)
    assert not any(byte in found.raw for byte in (b"\0", b"\n ", b"\n\t"))
