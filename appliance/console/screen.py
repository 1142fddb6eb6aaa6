"""A lobby's screen: the API key that its browser holds, and how it asks the API with it.

The key stands in a cookie that no script can read, and that the browser sends to this host alone. The page
asks the console, the console hands the question to the API's own application with that key: admission, the
record, streaming and errors are those of any caller, and the caller's address is the screen's.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.accounts.directory import require_address
from appliance.console.frame import Call, call_of
from appliance.core import Principal, Role
from appliance.errors import Refused

# The longest that browsers keep one (RFC 6265bis §5.5); each visit of the page begins it anew.
_MAX_AGE_SECONDS: Final = 400 * 86_400
_PASSED_ON: Final = frozenset({b"host", b"user-agent"})


def token_of(request: Request) -> str:
    """The key that the browser holds; empty where it holds none."""
    return request.cookies.get(_cookie_name(call_of(request)), "")


def principal_of(request: Request) -> Principal | None:
    """The screen behind the key, while that is in force."""
    call = call_of(request)
    if not (token := token_of(request)):
        return None
    try:
        found = call.services.directory.authenticate(token, now_us=call.services.clock.now_us())
        require_address(found, call.caller.address)
    except Refused:
        return None  # revoked, expired, or not for here: the page says that the screen is being set up
    return found if found.role is Role.KIOSK else None


def keep(response: Response, call: Call, token: str) -> None:
    """The browser holds the key from here on."""
    response.set_cookie(
        _cookie_name(call),
        token,
        max_age=_MAX_AGE_SECONDS,
        path="/",
        secure=call.is_secure,
        httponly=True,
        samesite="strict",
    )


def forget(response: Response, call: Call) -> None:
    """The browser holds it no more."""
    response.delete_cookie(
        _cookie_name(call), path="/", secure=call.is_secure, httponly=True, samesite="strict"
    )


class Asked(Response):
    """The API's answer to a POST of `body`, as it comes. Leaving the page is leaving the API."""

    def __init__(self, api: ASGIApp, path: str, token: str, body: bytes) -> None:
        super().__init__()
        self._api = api
        self._path = path
        self._token = token
        self._question = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [pair for pair in scope["headers"] if pair[0] in _PASSED_ON]
        headers += [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self._question)).encode("ascii")),
        ]
        if self._token:
            headers.append((b"authorization", b"Bearer " + self._token.encode("utf-8", "surrogatepass")))
        inner = {
            "type": "http",
            "asgi": scope["asgi"],
            "http_version": scope["http_version"],
            "scheme": scope["scheme"],
            "method": "POST",
            "path": self._path,
            "raw_path": self._path.encode("ascii"),
            "root_path": "",
            "query_string": b"",
            "headers": headers,
            "client": scope.get("client"),
            "server": scope.get("server"),
            "state": {},
        }
        handed_over = False

        async def receive_question() -> Message:
            nonlocal handed_over
            if handed_over:
                return await receive()
            handed_over = True
            return {"type": "http.request", "body": self._question, "more_body": False}

        await self._api(inner, receive_question, send)


def _cookie_name(call: Call) -> str:
    return "__Host-kiosk" if call.is_secure else "kiosk"
