"""Whether callers come in. During an upgrade that changes the schema they wait outside: going back would lose
them.

The installer leaves `probation` in the home before it starts the gateway; the gateway serves then, but
answers 503 to everybody until the installer, over the control socket, lets them in. The file goes first: a
restart in between serves as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from appliance import durable
from appliance.config import Home

RETRY_SECONDS: Final = 5
_OPEN_PATH: Final = "/healthz"
_BODY: Final = (
    b'{"error":{"message":"the appliance is being upgraded","type":"server_error","param":null,'
    b'"code":"upgrading"}}'
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Doors:
    """Open, or not yet. Owner of the file in the home, once the gateway runs: the gateway."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._is_open = not home.probation.exists()

    @property
    def is_open(self) -> bool:
        return self._is_open

    def open(self) -> None:
        """Let callers in, durably."""
        if not self._is_open:
            self._home.probation.unlink(missing_ok=True)
            durable.fsync_dir(self._home.root)
            self._is_open = True

    def guard(self, app: App) -> App:
        """An application behind these doors."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if self._is_open or scope["type"] != "http" or scope["path"] == _OPEN_PATH:
                await app(scope, receive, send)
                return
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(_BODY)).encode()),
                (b"retry-after", str(RETRY_SECONDS).encode()),
                (b"cache-control", b"no-store"),
            ]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": _BODY})

        return guarded
