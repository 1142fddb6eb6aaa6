"""The cookie that holds a screen's key, and how a question is handed to the API."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from appliance.console import screen
from appliance.console.frame import call_of, route, script_route
from appliance.core import Role
from tests.unit.console.rooms import framed

KEY = "apk_" + "a" * 10 + "_" + "b" * 52


async def _enrol(request: Request) -> Response:
    page = PlainTextResponse("done")
    screen.keep(page, call_of(request), KEY)
    if call_of(request).session is not None:
        call_of(request).log_out()
    return page


async def _forget(request: Request) -> Response:
    page = PlainTextResponse("done")
    screen.forget(page, call_of(request))
    return page


async def _api(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells what it was asked."""
    first: Message = await receive()
    told = {
        "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
        "scope": [scope["method"], scope["path"], scope["query_string"].decode(), scope["client"][0]],
        "body": first["body"].decode(),
        "more": first["more_body"],
        "state": sorted(scope["state"]),
    }
    head = [(b"content-type", b"application/json"), (b"x-request-id", b"req_1")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def _ask(request: Request) -> Response:
    await request.body()
    return screen.Asked(_api, "/v1/chat/completions", screen.token_of(request), b'{"a": 1}')


ROUTES = [
    route("/enrol", _enrol, None),
    route("/forget", _forget, None),
    script_route("/ask", _ask),
]


@pytest.mark.parametrize("is_secure", [True, False])
async def test_cookie_is_out_of_reach(*, is_secure: bool) -> None:
    """For no script, no other site and, with TLS, no other host; and it outlives the staff's session."""
    async with framed(ROUTES, is_secure=is_secure) as room:
        await room.enter(Role.OPERATOR)
        cookies = (await room.client.get("/enrol")).headers.get_list("set-cookie")
        gone = (await room.client.get("/forget")).headers["set-cookie"]
    key = next(each for each in cookies if KEY in each)
    session = next(each for each in cookies if "session=;" in each)

    assert len(cookies) == 2
    assert key.startswith("__Host-kiosk=" if is_secure else "kiosk=")
    attributes = {each.strip().lower() for each in key.split(";")[1:]}
    assert attributes >= {"httponly", "samesite=strict", "path=/", "max-age=34560000"}
    assert ("secure" in attributes) is is_secure
    assert not any(each.startswith("domain") for each in attributes)
    assert "Max-Age=0" in session
    assert "Max-Age=0" in gone


async def test_api_is_asked_with_the_key_and_nothing_of_the_browsers() -> None:
    """Key, address and user agent go on; cookies and whatever else the page sent stay here."""
    async with framed(ROUTES) as room:
        headers = {
            "origin": "http://console.test",
            "cookie": f"kiosk={KEY}; other=x",
            "user-agent": "Screen/1",
            "x-api-key": "apk_other",
            "authorization": "Bearer other",
        }
        answer = await room.client.post("/ask?model=big", json={"question": "x"}, headers=headers)
    told = answer.json()

    assert answer.headers.get_list("x-request-id") == ["req_1"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert told["headers"] == {
        "host": "console.test",
        "user-agent": "Screen/1",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": "8",
    }
    assert told["scope"] == ["POST", "/v1/chat/completions", "", "127.0.0.1"]
    assert (told["body"], told["more"], told["state"]) == ('{"a": 1}', False, [])
