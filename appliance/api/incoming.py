"""Bodies as they come in: refused where they are too large, too slow or cut short, before they are whole."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from appliance.api.listening.peer import wire_of
from appliance.errors import RequestError

_GONE: Final = "http.disconnect"


def bounded(scope: Scope, receive: Receive, *, max_bytes: int, seconds: float, hint: str = "") -> Receive:
    """`receive` within bounds. `seconds` are those of the whole body, from the first time it is asked for.

    RequestError: `request_too_large`, `body_timeout`, `body_incomplete`, or what the connection found wrong.
    """
    headers = Headers(scope=scope)
    declared = headers.get("content-length", "")
    has_body = declared.strip("0") != "" or "transfer-encoding" in headers
    wire = wire_of(scope)
    loop = asyncio.get_running_loop()
    total = 0
    ends: float | None = None
    is_whole = False  # from then on only the caller's leaving is waited for, as long as the answer takes

    async def receive_bounded() -> Message:
        nonlocal total, ends, is_whole
        if is_whole:
            return await receive()
        if declared.isdecimal() and int(declared) > max_bytes:
            raise _too_large(max_bytes, hint)
        ends = loop.time() + seconds if ends is None else ends
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError as error:
            raise RequestError("the body did not arrive in time", code="body_timeout") from error
        if wire.problem is not None:
            raise wire.problem
        if message["type"] == _GONE:
            if not has_body:
                return message
            raise RequestError("the caller left before the body was complete", code="body_incomplete")
        total += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if total > max_bytes:
            raise _too_large(max_bytes, hint)
        return message

    return receive_bounded


def _too_large(limit: int, hint: str) -> RequestError:
    return RequestError(f"the body is larger than {limit} bytes", code="request_too_large", hint=hint)
