"""The gateway's ports over real sockets: what is no request, what comes too slowly, and how many may come."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from tests import wire
from tests.harness import Gateway, gateway, question, wait_until
from tests.records import closing_of, openings

pytestmark = pytest.mark.integration
TOML = """
[audit]
refusal_burst = 10000
[server]
header_timeout_seconds = 1
keep_alive_seconds = 1
body_timeout_seconds = 1
send_timeout_seconds = 1
max_connections = 60
max_connections_per_address = 40
"""
CHAT = "/v1/chat/completions"
CHUNKED = ("transfer-encoding: chunked", "content-type: application/json")
GET = b"GET /healthz HTTP/1.1\r\nhost: box\r\n"
# What is refused before anybody asks for a key. No case gets further than the connection.
MALFORMED: dict[str, bytes] = {
    "a length and chunks": wire.request("POST", CHAT, *CHUNKED, "content-length: 3") + b"0\r\n\r\n",
    "two lengths": wire.request("POST", CHAT, "content-length: 2", "content-length: 3") + b"{}",
    "two equal lengths": wire.request("POST", CHAT, "content-length: 2", "content-length: 2") + b"{}",
    "a list of lengths": wire.request("POST", CHAT, "content-length: 2, 2") + b"{}",
    "a signed length": wire.request("POST", CHAT, "content-length: +2") + b"{}",
    "a negative length": wire.request("POST", CHAT, "content-length: -2") + b"{}",
    "a length beyond all numbers": wire.request("POST", CHAT, f"content-length: {'9' * 40}"),
    "a length in other digits": wire.request("POST", CHAT, "content-length: \xb2"),
    "a coding before the chunks": wire.request("POST", CHAT, "transfer-encoding: gzip, chunked"),
    "a coding that is none": wire.request("POST", CHAT, "transfer-encoding: xchunked"),
    "two codings": wire.request("POST", CHAT, *CHUNKED, "transfer-encoding: identity"),
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": GET + b"x: a\r\n b\r\n\r\n",
    "a bare LF in the headers": GET + b"x: a\nauthorization: b\r\n\r\n",
    "bare LFs everywhere": b"GET /healthz HTTP/1.1\nhost: box\n\n",
    "a bare CR in a header": GET + b"x: a\rb\r\n\r\n",
    "a NUL in a header": GET + b"x: a\0b\r\n\r\n",
    "a control character in a header": GET + b"x: a\x01b\r\n\r\n",
    "white space before the colon": GET + b"content-length : 5\r\n\r\n",
    "no colon": GET + b"x\r\n\r\n",
    "no name": GET + b": x\r\n\r\n",
    "a name with a space": GET + b"x y: z\r\n\r\n",
    "two hosts": GET + b"host: other\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a host that is none": b"GET /healthz HTTP/1.1\r\nhost: a/b@c\r\n\r\n",
    "two keys of one kind": GET + b"authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
    "a proxy's target": b"GET http://box/healthz HTTP/1.1\r\nhost: box\r\n\r\n",
    "a tunnel": b"CONNECT box:443 HTTP/1.1\r\nhost: box\r\n\r\n",
    "a tunnel to a path": b"CONNECT / HTTP/1.1\r\nhost: box\r\n\r\n",
    "no path": b"OPTIONS * HTTP/1.1\r\nhost: box\r\n\r\n",
    "a fragment": b"GET /healthz#x HTTP/1.1\r\nhost: box\r\n\r\n",
    "a backslash": b"GET /\\healthz HTTP/1.1\r\nhost: box\r\n\r\n",
    "a path of raw bytes": b"GET /\xc3\xa9 HTTP/1.1\r\nhost: box\r\n\r\n",
    "two spaces": b"GET  /healthz HTTP/1.1\r\nhost: box\r\n\r\n",
    "a tab": b"GET\t/healthz HTTP/1.1\r\nhost: box\r\n\r\n",
    "a method that is none": b"FROB /healthz HTTP/1.1\r\nhost: box\r\n\r\n",
    "a method in small letters": b"get /healthz HTTP/1.1\r\nhost: box\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nhost: box\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS greeting": bytes.fromhex("160301020001"),
    "another protocol": GET + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
}
TOO_LARGE: dict[str, tuple[bytes, int, str]] = {
    "a long line": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: box\r\n\r\n", 414, "uri_too_long"),
    "a line without an end": (b"GET /" + b"a" * 20_000, 414, "uri_too_long"),
    "one long header": (GET + b"x: " + b"a" * 40_000 + b"\r\n\r\n", 431, "headers_too_large"),
    "headers without an end": (GET + b"x: a\r\n" * 10_000, 431, "headers_too_large"),
    "many headers": (GET + b"x: a\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
}
BAD_CHUNKS: dict[str, bytes] = {
    "no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "a negative number": b"-2\r\n{}\r\n0\r\n\r\n",
    "a C number": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a number beyond all numbers": b"f" * 20 + b"\r\n{}\r\n0\r\n\r\n",
    "a bare LF": b"2\n{}\r\n0\r\n\r\n",
    "more than was said": b"2\r\n{}{}\r\n0\r\n\r\n",
    "a space": b"2 \r\n{}\r\n0\r\n\r\n",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("listening") / "home", toml=TOML) as started:
        started.wait_ready()
        yield started


def refused(running: Gateway, answer: wire.Answer) -> list[tuple[object, object, object]]:
    """What is on the record of this answer's request."""
    records = query.by_request(running.home.database, answer.headers["x-request-id"])
    assert {each.kind for each in records} <= {Kind.REQUEST_REFUSED}
    return [(each.public["status"], each.public["code"], each.public["route"]) for each in records]


@pytest.mark.parametrize("case", MALFORMED)
def test_what_can_be_read_in_two_ways_is_not_read(running: Gateway, case: str) -> None:
    """400 in the documented shape, one record, the end of the connection, and nothing reaches a route."""
    data = MALFORMED[case]
    answers = wire.send(running.url, data + GET + b"\r\n")  # what is behind it is not read either

    assert [(each.status, each.code) for each in answers] == [(400, "malformed_request")]
    assert refused(running, answers[0]) == [(400, "malformed_request", "unknown")]
    assert answers[0].headers["connection"] == "close"
    assert b"box" not in answers[0].body


@pytest.mark.parametrize("case", TOO_LARGE)
def test_heads_are_bounded(running: Gateway, case: str) -> None:
    """A long request line, a long header and many headers are refused before they have an end."""
    data, status, code = TOO_LARGE[case]
    (answer,) = wire.send(running.url, data)

    assert (answer.status, answer.code) == (status, code)
    assert refused(running, answer) == [(status, code, "unknown")]


@pytest.mark.parametrize("case", BAD_CHUNKS)
def test_chunks_are_read_in_one_way(running: Gateway, case: str) -> None:
    """A body that is not delimited as announced is refused by its route, on the record of its key."""
    head = wire.request("POST", CHAT, *CHUNKED, key=running.key(), close=False)
    (answer,) = wire.send(running.url, head + BAD_CHUNKS[case])

    assert (answer.status, answer.code) == (400, "malformed_request")
    assert refused(running, answer) == [(400, "malformed_request", CHAT)]


def test_what_follows_the_last_chunk_is_no_header_and_no_request(running: Gateway) -> None:
    """A trailer does not become a header of the request, and a request behind a chunked one is not read."""
    body = json.dumps(question("echo: once")).encode()
    chunks = b"%x\r\n%b\r\n0\r\nidempotency-key: smuggled\r\n\r\n" % (len(body), body)
    data = wire.request("POST", CHAT, *CHUNKED, key=running.key(), close=False) + chunks
    (answer,) = wire.send(running.url, data + GET + b"\r\n")
    (again,) = wire.send(running.url, data + GET + b"\r\n")

    assert (answer.status, again.status) == (200, 200)
    assert "idempotency-replayed" not in again.headers


def test_requests_sent_ahead_are_answered_in_order(running: Gateway) -> None:
    """Pipelined requests: each is answered once, in its turn, and a malformed one ends the connection."""
    key = running.key()
    body = json.dumps(question("echo: first")).encode()
    first = wire.request("POST", CHAT, "content-type: application/json", key=key, body=body, close=False)
    second = wire.request("GET", "/v1/nothing", key=key, close=False)
    answers = wire.send(
        running.url, first + second + GET + b"\r\n" + b"GET  / HTTP/1.1\r\n\r\n" + GET + b"\r\n"
    )

    assert [each.status for each in answers] == [200, 404, 200, 400]


def test_an_offer_of_another_http_is_passed_over(running: Gateway) -> None:
    """A client that offers HTTP/2 in its first request is answered in HTTP/1.1, with its body read."""
    body = json.dumps(question("echo: plain")).encode()
    offer = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk")
    data = wire.request("POST", CHAT, *offer, key=running.key(), body=body, close=False)
    (answer,) = wire.send(running.url, data)

    assert answer.status == 200
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "plain"


def test_a_head_that_comes_slowly_is_refused(running: Gateway) -> None:
    """A byte now and then does not keep a connection: 408, on the record."""
    with wire.connect(running.url) as sock:
        sock.sendall(GET)
        (answer,) = wire.answers_in(wire.read_all(sock))

    assert (answer.status, answer.code) == (408, "header_timeout")
    assert refused(running, answer) == [(408, "header_timeout", "unknown")]


def test_a_body_that_comes_slowly_is_refused(running: Gateway) -> None:
    """The time is that of the whole body: a byte now and then does not prolong it."""
    head = wire.request("POST", CHAT, "content-length: 100", key=running.key())
    with wire.connect(running.url) as sock:
        sock.sendall(head)
        sock.settimeout(0.2)
        found = b""
        while not found:
            sock.sendall(b" ")
            try:
                found = sock.recv(65_536)
            except TimeoutError:
                continue
        sock.settimeout(wire.SECONDS)
        (answer,) = wire.answers_in(found + wire.read_all(sock))

    assert (answer.status, answer.code) == (408, "body_timeout")
    assert refused(running, answer) == [(408, "body_timeout", CHAT)]


def test_a_caller_who_leaves_in_the_middle_of_a_body_is_on_the_record(running: Gateway) -> None:
    """It is no crash of ours: the record says that the body was incomplete."""
    before = codes(running).count("body_incomplete")
    with wire.connect(running.url) as sock:
        sock.sendall(wire.request("POST", CHAT, "content-length: 100", key=running.key()) + b"{")

    wait_until(lambda: codes(running).count("body_incomplete") == before + 1)
    assert "request_crashed" not in running.log_file.read_text()


def test_silence_and_idleness_end(running: Gateway) -> None:
    """A connection on which nothing is asked, at first or any more, is closed without an answer."""
    with wire.connect(running.url) as silent, wire.connect(running.url) as idle:
        idle.sendall(GET + b"\r\n")
        assert wire.read_all(silent) == b""
        assert [each.status for each in wire.answers_in(wire.read_all(idle))] == [200]


def test_a_caller_who_does_not_read_is_cut_off(running: Gateway) -> None:
    """The buffers between are bounded, and the record says that the caller has gone."""
    known = {each.request_id for each in openings(running.home)}
    body = json.dumps(question("say 100000 tokens", stream=True, logprobs=True, top_logprobs=20)).encode()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        parts = running.url.removeprefix("http://").split(":")
        sock.connect((parts[0], int(parts[1])))
        sock.sendall(wire.request("POST", CHAT, key=running.key(), body=body))
        wait_until(lambda: "client_does_not_read" in running.log_file.read_text(), seconds=30)
    (request_id,) = {each.request_id for each in openings(running.home)} - known
    wait_until(lambda: is_closed(running, str(request_id)))
    assert closing_of(running.home, str(request_id)).public["outcome"] == "client_gone"


def test_connections_of_one_address_are_bounded(running: Gateway) -> None:
    """One more is told 503 and when to come back; when the others have gone, it is let in."""
    tries = (one_too_many(running) for _ in range(20))
    (answer,) = next(each for each in tries if each)
    assert (answer.status, answer.code) == (503, "too_many_connections")
    assert "retry-after" in answer.headers
    assert refused(running, answer) == [(503, "too_many_connections", "unknown")]
    wait_until(lambda: wire.send(running.url, GET + b"connection: close\r\n\r\n")[0].status == 200)


def test_reconnecting_and_half_open_connections_leave_nothing_behind(running: Gateway) -> None:
    """A thousand connections one after the other, and 200 that never ask: as many open files as before."""
    at_rest = open_files(running)
    for _ in range(1000):
        with wire.connect(running.url):
            pass
    wait_until(lambda: open_files(running) <= at_rest)
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(wire.connect(running.url)) for _ in range(40)]
            assert {wire.read_all(each) for each in silent} == {b""}
        wait_until(lambda: open_files(running) <= at_rest)

    assert wire.send(running.url, GET + b"connection: close\r\n\r\n")[0].status == 200


def one_too_many(running: Gateway) -> list[wire.Answer]:
    """What is said to the last of 41; nothing, where the first of them had gone by then."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(wire.connect(running.url))
        return wire.send(running.url, b"")


def codes(running: Gateway) -> list[object]:
    return [each.public["code"] for each in query.search(running.home.database, kind=Kind.REQUEST_REFUSED)]


def is_closed(running: Gateway, request_id: str) -> bool:
    records = query.by_request(running.home.database, request_id)
    return any(each.kind is Kind.REQUEST_CLOSED for each in records)


def open_files(running: Gateway) -> int:
    return len(list(Path(f"/proc/{running.pid}/fd").iterdir()))
