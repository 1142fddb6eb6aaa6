"""Server-sent events (WHATWG HTML §9.2) and the watch for a caller who leaves.

A mid-stream failure is a `data:` line with an `error` object: clients parse data lines only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api import errors as wire
from appliance.errors import ApplianceError

DONE = b"data: [DONE]\n\n"


def event(payload: bytes) -> bytes:
    """One frame. `payload` is JSON on one line: it holds no line break by construction."""
    return b"data: " + payload + b"\n\n"


class EventStream(Response):
    """Sends frames as they come; calls `on_gone` if the caller leaves before the last one."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[bytes], on_gone: Callable[[], None]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        # The base class announces an empty body; a stream has no length.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._frames = frames
        self._on_gone = on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        sender = asyncio.ensure_future(self._send_all(send))
        try:
            await until_gone(receive, sender)
        finally:
            if not sender.done():
                sender.cancel()
            finished = await asyncio.gather(sender, return_exceptions=True)
            # An OSError here is the caller's closed connection; anything else is a bug of ours.
            if finished[0] is not None:
                self._on_gone()
        if isinstance(finished[0], Exception) and not isinstance(finished[0], OSError):
            raise finished[0]

    def failure(self, error: ApplianceError) -> bytes:
        """What is sent in the middle of a stream that fails."""
        return event(wire.body_of(error))

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for frame in self._frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        except ApplianceError as error:
            failure = self.failure(error)
            await send({"type": "http.response.body", "body": failure, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class RowStream(EventStream):
    """Rows as they are found. A stream that fails is cut off: what has no end is not whole.

    `source` is what the frames are made from; it ends with the response, whoever hung up.
    """

    def __init__(
        self, frames: AsyncIterator[bytes], source: AsyncGenerator[Any], media_type: str, name: str
    ) -> None:
        self.media_type = media_type
        self._source = source
        super().__init__(frames, lambda: None)
        self.headers["content-disposition"] = f'attachment; filename="{name}"'
        self.headers["x-content-type-options"] = "nosniff"

    def failure(self, error: ApplianceError) -> bytes:
        raise error

    async def _send_all(self, send: Send) -> None:
        async with contextlib.aclosing(self._source):
            await super()._send_all(send)


async def until_gone(receive: Receive, work: asyncio.Future[None]) -> None:
    """Return when `work` is done or when the caller has disconnected, whichever is first."""
    watch = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({watch, work}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def unless_gone(receive: Receive, work: Awaitable[None], on_gone: Callable[[], None]) -> None:
    """Wait for `work`; tell `on_gone` if the caller leaves first, and wait on for the record's sake."""
    task = asyncio.ensure_future(work)
    try:
        await until_gone(receive, task)
    finally:
        if not task.done():
            on_gone()
    await task


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
