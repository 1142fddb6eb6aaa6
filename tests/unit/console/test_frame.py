"""The frame: who is let in, what a form must bring, and what every answer carries whatever went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from appliance.accounts.roles import Permission
from appliance.console import frame
from appliance.console.frame import MAX_BODY_BYTES, call_of, route
from appliance.core import Role
from appliance.errors import RequestError
from tests.unit.console.rooms import Room, framed

SECRET = "canary-4711"


async def _page(_request: Request) -> Response:
    return PlainTextResponse("shown")


async def _form(request: Request) -> Response:
    call = call_of(request)
    return PlainTextResponse(f"{call.text('a')}|{await call.file('f')}")


async def _crash(_request: Request) -> Response:
    raise ValueError(SECRET)


async def _wrong(_request: Request) -> Response:
    raise RequestError("<b>this</b> is {{ 7 * 7 }}", code="invalid_value", hint="a hint")


ROUTES = [
    route("/open", _page, None),
    route("/health", _page, Permission.SEE_HEALTH),
    route("/acts", _form, Permission.SIGN_ACTS, methods=("POST",)),
    route("/crash", _crash, None),
    route("/wrong", _wrong, None),
]


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with framed(ROUTES) as made:
        yield made


def codes(room: Room) -> list[tuple[Any, ...]]:
    return [(each["route"], each["code"], int(each["status"])) for each in room.refusals]


async def test_pages_want_a_session_and_its_role(room: Room) -> None:
    """Without one to the entrance; with another role's, a refusal on the record with who it was."""
    away = await room.client.get("/health")
    assert (away.status_code, away.headers["location"]) == (303, "/login")
    session = await room.enter(Role.AUDITOR)
    refused = await room.client.get("/health")
    assert refused.status_code == 403
    assert codes(room) == [("/health", "not_logged_in", 303), ("/health", "permission_denied", 403)]
    assert room.refusals[1]["principal"] == session.principal
    await room.enter(Role.OPERATOR)
    assert (await room.client.get("/health")).text == "shown"


async def test_first_passphrase_opens_nothing_else(room: Room) -> None:
    """Until it is changed, every page leads to where that is done."""
    session = await room.enter(Role.OPERATOR)
    session.must_change = True

    away = await room.client.get("/health")
    assert (away.status_code, away.headers["location"]) == (303, "/passphrase")


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({}, True),  # no browser says nothing; the token counts
        ({"sec-fetch-site": "same-origin", "origin": "http://console.test"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://evil.test"}, False),
        ({"origin": "https://console.test"}, False),
        ({"origin": "http://console.test:8080"}, False),
        ({"origin": "null"}, False),
    ],
)
async def test_forms_of_other_sites_are_refused(
    room: Room, headers: dict[str, str], *, is_taken: bool
) -> None:
    """Whatever the browser says of where a form comes from must be here, with the right token too."""
    session = await room.enter(Role.PRIVACY)
    answer = await room.client.post("/acts", data={"csrf": session.csrf, "a": "1"}, headers=headers)

    assert answer.status_code == (200 if is_taken else 403)
    assert codes(room) == ([] if is_taken else [("/acts", "cross_site", 403)])


@pytest.mark.parametrize("token", [None, "", "x", "another session's", "\U0001f600"])
async def test_form_without_this_sessions_token_is_refused(room: Room, token: str | None) -> None:
    """Missing, wrong, or of another session of the same person."""
    other = await room.enter(Role.PRIVACY)
    session = await room.enter(Role.PRIVACY)
    sent = other.csrf if token == "another session's" else token
    fields = {"a": "1"} if sent is None else {"csrf": sent, "a": "1"}
    assert session.csrf != other.csrf
    assert (await room.client.post("/acts", data=fields)).status_code == 403
    twice = await room.client.post("/acts", content=f"csrf=x&csrf={session.csrf}x&a=1".encode(),
                                   headers={"content-type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert twice.status_code == 403
    assert {code for _, code, _ in codes(room)} == {"cross_site"}


async def test_fields_and_files_arrive_as_they_were_sent(room: Room) -> None:
    """Text and a file's text; a file that is no text is the sender's mistake."""
    session = await room.enter(Role.PRIVACY)
    good = await room.client.post(
        "/acts", data={"csrf": session.csrf, "a": "ä"}, files={"f": ("name", "content ü".encode())}
    )
    bad = await room.client.post("/acts", data={"csrf": session.csrf}, files={"f": ("name", b"\xff\xfe\xfd")})

    assert (good.status_code, good.text) == (200, "ä|content ü")
    assert bad.status_code == 400
    assert codes(room) == [("/acts", "invalid_file", 400)]


@pytest.mark.parametrize("told", [True, False])
async def test_bodies_are_bounded(room: Room, *, told: bool) -> None:
    """Over a mebibyte nothing is read on, whether its length was told or not."""
    session = await room.enter(Role.PRIVACY)
    body = f"csrf={session.csrf}&a=".encode() + b"x" * MAX_BODY_BYTES
    headers = {"content-type": "application/x-www-form-urlencoded"}

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    answer = await room.client.post("/acts", content=body if told else pieces(), headers=headers)
    assert answer.status_code == 413
    assert codes(room) == [("/acts", "request_too_large", 413)]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense"),
        ("multipart/form-data", b"no boundary"),
        ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % n for n in range(300))),
        ("multipart/form-data; boundary=x",
         b"".join(b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n' % n for n in range(300))
         + b"--x--\r\n"),
    ],
)  # fmt: skip
async def test_forms_that_are_none_are_refused(room: Room, content_type: str, body: bytes) -> None:
    """Broken, or with more fields than any page has: a page that says so, never a crash."""
    await room.enter(Role.PRIVACY)
    answer = await room.client.post("/acts", content=body, headers={"content-type": content_type})

    assert answer.status_code in {400, 403}
    assert "That did not work" in answer.text


@pytest.mark.parametrize("field", ["x" * 10_001])
async def test_endless_field_is_refused(room: Room, field: str) -> None:
    """One field has its own bound."""
    session = await room.enter(Role.PRIVACY)
    answer = await room.client.post("/acts", data={"csrf": session.csrf, "a": field})

    assert answer.status_code == 400
    assert "x" * 50 not in answer.text


EVERYTHING = ["/open", "/health", "/crash", "/wrong", "/nowhere", "/open?" + SECRET]


@pytest.mark.parametrize("is_secure", [False, True])
@pytest.mark.parametrize("path", EVERYTHING)
async def test_every_answer_carries_the_rules(path: str, *, is_secure: bool) -> None:
    """Pages, redirects, errors: the same headers, each once."""
    async with framed(ROUTES, is_secure=is_secure) as room:
        answer = await room.client.get(path)
    headers = answer.headers
    names = [name for name, _ in headers.multi_items()]
    assert len(names) == len(set(names))
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"].startswith("con_")
    assert ("strict-transport-security" in headers) is is_secure


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "HEAD"])
async def test_other_methods_are_refused_with_a_page(room: Room, method: str) -> None:
    """What a page does not take is told; HEAD is GET without the text."""
    answer = await room.client.request(method, "/open")

    assert answer.status_code == (200 if method == "HEAD" else 405)
    assert [code for _, code, _ in codes(room)] == ([] if method == "HEAD" else ["method_not_allowed"])


async def test_crash_is_a_page_without_the_reason(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    """What went wrong inside is told to nobody outside; the record has the code, the page the request."""
    answer = await room.client.get("/crash")

    assert answer.status_code == 500
    assert SECRET not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert codes(room) == [("/crash", "internal_error", 500)]
    del capsys


async def test_errors_are_text_and_not_markup(room: Room) -> None:
    """What an error says is escaped, and no template runs in it."""
    answer = await room.client.get("/wrong")

    assert "&lt;b&gt;this&lt;/b&gt; is {{ 7 * 7 }}." in answer.text
    assert "A hint." in answer.text


async def test_unknown_page_is_recorded_without_its_address(room: Room) -> None:
    """An address can hold a name: the record says that it was unknown."""
    answer = await room.client.get(f"/{SECRET}?q={SECRET}")

    assert answer.status_code == 404
    assert SECRET not in answer.text
    assert codes(room) == [("unknown", "not_found", 404)]


async def test_latched_log_is_told_and_nothing_else(room: Room) -> None:
    """A refusal that can not be on the record becomes the news that nothing can."""
    room.log.is_ready = False
    answer = await room.client.get("/nowhere")

    assert answer.status_code == 503
    assert "audit_unavailable" in answer.text


@pytest.mark.parametrize("is_secure", [False, True])
async def test_cookie_is_the_browsers_own_secret(*, is_secure: bool) -> None:
    """Not for scripts, not for other sites; with TLS bound to this host, and never over plain HTTP."""

    async def log_in(request: Request) -> Response:
        call = call_of(request)
        call.log_in("token", call.known)
        return PlainTextResponse("")

    async def log_out(request: Request) -> Response:
        call_of(request).log_out()
        return PlainTextResponse("")

    async with framed(
        [route("/in", log_in, None), route("/out", log_out, None)], is_secure=is_secure
    ) as room:
        await room.enter(Role.AUDITOR)
        set_, removed = [(await room.client.get(path)).headers["set-cookie"] for path in ("/in", "/out")]
    name = "__Host-session" if is_secure else "session"
    tail = "; Secure" if is_secure else ""
    assert set_ == f"{name}=token; Path=/; HttpOnly; SameSite=Strict{tail}"
    assert removed == f"{name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{tail}"


async def test_answer_may_take_longer_than_a_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is the form's: a stream goes on for as long as somebody listens."""
    monkeypatch.setattr(frame, "_BODY_TIMEOUT_SECONDS", 0.05)

    async def slow(_request: Request) -> Response:
        async def pieces() -> AsyncIterator[str]:
            for number in range(4):
                await asyncio.sleep(0.05)
                yield str(number)

        return StreamingResponse(pieces())

    async with framed([route("/slow", slow, None)]) as room:
        answer = await room.client.get("/slow")
    assert answer.text == "0123"


async def test_form_that_never_ends_is_given_up(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that stops in the middle of a form holds nothing for long."""
    monkeypatch.setattr(frame, "_BODY_TIMEOUT_SECONDS", 0.05)
    await room.enter(Role.PRIVACY)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a="
        await asyncio.sleep(5)
        yield b"1"

    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer: httpx.Response = await room.client.post("/acts", content=pieces(), headers=headers)
    assert answer.status_code == 408
    assert codes(room) == [("/acts", "body_timeout", 408)]
