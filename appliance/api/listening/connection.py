"""One connection, one request at a time: uvicorn's protocol within bounds.

    HEAD ──valid, in time──► BODY ──whole──► WAIT ──answered──► HEAD …
      └── else ► OVER: one answer, on the record, and the end

uvicorn reads ahead without a bound, lets a head take for ever, and waits for ever for a client that does not
read. Here the bytes of a head are checked (`head`) before the parser sees them, what was sent ahead waits in
a bounded buffer, and each state has its clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from appliance.api import errors as wire_errors
from appliance.api.listening import head
from appliance.api.listening.peer import Wire
from appliance.errors import ApplianceError, RequestError, Unavailable
from appliance.log import get_logger
from appliance.statuses import status_of
from appliance.tls import clients
from appliance.tls.certificates import About

LINGER_SECONDS: Final = 2.0  # for a client that still sends what nobody reads, so that it hears the answer
FLUSH_SECONDS: Final = 5.0  # for the last bytes of a connection that is being closed
WRITE_BUFFER_BYTES: Final = 64 * 1024

log = get_logger(__name__)


# Puts a refusal on the record: address, problem → the id of the request, and what is answered.
Report = Callable[[str, ApplianceError], Awaitable[tuple[str, ApplianceError]]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may take. Seconds and bytes."""

    header_seconds: float  # for a handshake, and for a whole head
    keep_alive_seconds: float  # between two requests
    send_seconds: float  # for a full buffer to be read
    header_bytes: int  # of a head, and of what is sent ahead


class State(Enum):
    """What the next bytes are."""

    HEAD = auto()
    BODY = auto()
    WAIT = auto()  # of a request that comes after the one that is being answered
    OVER = auto()  # nobody's


class Connection(HttpToolsProtocol):
    """Owner of one socket: the event loop's thread."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
        *,
        bounds: Bounds,
        on_lost: Callable[[], None],
        report: Report,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._bounds = bounds
        self._on_lost = on_lost  # called once, where it was ever made
        self._report = report
        self._ahead = bytearray()  # what was sent and not looked at
        self._state = State.HEAD
        self._length = 0  # bytes of the body that are yet to come, where its length is known
        self._is_chunked = False
        self._is_head_complete = False
        self._wire = Wire()
        self._certificate: About | None = None
        self._clock: asyncio.TimerHandle | None = None  # of the state
        self._stalled: asyncio.TimerHandle | None = None  # of a full write buffer
        self.is_made = False
        self.timeout_keep_alive = bounds.keep_alive_seconds  # type: ignore[assignment]  # a float will do

    @property
    def address(self) -> str:
        """Where it comes from; empty where the system does not tell."""
        return self.client[0] if self.client else ""

    # ---- the socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for; with TLS the handshake is done."""
        super().connection_made(transport)
        self.is_made = True
        over_tls = transport.get_extra_info("ssl_object")
        der = over_tls.getpeercert(binary_form=True) if over_tls is not None else None
        self._certificate = clients.shown(der) if der else None
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        self._set_clock(self._bounds.header_seconds, self._on_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing of it stays: no clock, no place in the crowd."""
        self._state = State.OVER
        self._stop_clocks()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Look at what came, or keep it, or drop it."""
        if self._state is State.OVER:
            return
        self._unset_keepalive_if_required()
        self._ahead += data
        self._advance()

    def pause_writing(self) -> None:
        """The client does not read: for so long, and no longer."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._bounds.send_seconds, self._on_stalled)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while."""
        self._end()

    def shutdown(self) -> None:
        """The server stops: nothing more is read behind the request that is being answered."""
        super().shutdown()
        self._ahead.clear()
        if self.transport.is_closing():
            self._end()

    # ---- reading

    def _advance(self) -> None:
        while self._ahead and not self.transport.is_closing():
            if self._state is State.HEAD:
                if not self._take_head():
                    return
            elif self._state is State.BODY:
                self._take_body()
            else:
                break
        if self._state is State.WAIT and len(self._ahead) > self._bounds.header_bytes:
            self._ahead.clear()  # nobody sends so much ahead in good faith: this answer is the last one
            self.cycle.keep_alive = False

    def _take_head(self) -> bool:
        """Whether a whole head was there. What can not become one is refused at once."""
        if self._clock is None:
            self._set_clock(self._bounds.header_seconds, self._on_late)
        if self._ahead.startswith(b"\r\n"):
            del self._ahead[:2]  # RFC 9112 §2.2: an empty line before a request is passed over
        if not self._ahead:
            return False
        try:
            raw = self._find_head()
            if raw is None:
                return False
            found = head.read(raw)
        except RequestError as error:
            self._refuse(error)
            return False
        del self._ahead[: len(raw)]
        self._stop_clock()
        self._is_chunked, self._length = found.is_chunked, found.length
        self._is_head_complete = False
        self._state = State.BODY
        self._feed(found.raw)
        return self._state is not State.OVER

    def _find_head(self) -> bytes | None:
        head.check_start(self._ahead)
        end = self._ahead.find(head.END, 0, self._bounds.header_bytes)
        if end >= 0:
            return bytes(self._ahead[: end + len(head.END)])
        if len(self._ahead) >= self._bounds.header_bytes:
            raise RequestError(
                f"the headers are larger than {self._bounds.header_bytes} bytes", code="headers_too_large"
            )
        return None

    def _take_body(self) -> None:
        """A known length is cut off where it ends; behind the last chunk nothing more is read."""
        take = len(self._ahead) if self._is_chunked else min(self._length, len(self._ahead))
        data = bytes(self._ahead[:take])
        del self._ahead[:take]
        if not self._is_chunked:
            self._length -= take
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._on_unreadable()

    def _on_unreadable(self) -> None:
        if self._state is State.BODY and not self._is_head_complete:
            self._refuse(head.malformed("the parser does not take it"))
            return
        if self._state is State.BODY:
            # Whoever reads the body hears of it, and refuses as with everything else that is in a body.
            self._wire.problem = head.malformed("its body is not delimited as it was announced")
            self.cycle.message_event.set()
        # Else something came behind the last chunk: what is being answered is answered, and that is all.
        self._state = State.OVER
        self._ahead.clear()
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self._end()

    # ---- what the parser says

    def on_message_begin(self) -> None:
        """One head was handed over, so one message begins: another one came behind the last chunk."""
        if self._state is not State.BODY or self._is_head_complete:
            raise head.malformed("something follows its last chunk")
        super().on_message_begin()
        self._wire = Wire(certificate=self._certificate)
        self.scope["state"]["wire"] = self._wire

    def on_header(self, name: bytes, value: bytes) -> None:
        """What comes behind the body is no header of the request (RFC 9110 §6.5.1)."""
        if not self._is_head_complete:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_head_complete = True

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._state = State.WAIT
        if self.cycle.response_complete:  # refused before its body was there, and now it is
            self._rest()

    def on_response_complete(self) -> None:
        """Go on with what was sent ahead, or wait for it."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._end()
        elif self._state is State.WAIT:
            self._rest()
        else:  # the body is still coming, and nobody reads it
            self._unset_keepalive_if_required()
            self._set_clock(self._bounds.header_seconds, self._end)

    def _rest(self) -> None:
        self._stop_clock()
        self._state = State.HEAD
        if self._ahead:
            self._unset_keepalive_if_required()
            self.loop.call_soon(self._advance)
        elif self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self._bounds.keep_alive_seconds, self.timeout_keep_alive_handler
            )

    # ---- ends

    def _on_late(self) -> None:
        """Where nobody asked anything, there is nothing to refuse."""
        if self._ahead:
            self._refuse(RequestError("the headers did not arrive in time", code="header_timeout"))
        else:
            self._end()

    def _on_stalled(self) -> None:
        """Cut off: the exchange hears that its caller has gone, and its record says so."""
        log.warning("client_does_not_read", reason="the write buffer stayed full")
        self.transport.abort()

    def _refuse(self, problem: ApplianceError) -> None:
        """The last answer of this connection."""
        self._state = State.OVER
        self._ahead.clear()
        self._stop_clock()
        task = self.loop.create_task(self._answer(problem))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, problem: ApplianceError) -> None:
        request_id, told = await self._report(self.address, problem)
        if self.transport.is_closing():
            return
        self.transport.write(last_answer(request_id, told, self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._set_clock(LINGER_SECONDS, self._end)

    def _end(self) -> None:
        """Close; and cut off whoever does not read what is left."""
        self._state = State.OVER
        self._ahead.clear()
        self._stop_clock()
        self.transport.close()
        self._set_clock(FLUSH_SECONDS, self.transport.abort)

    def _set_clock(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(seconds, then)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _stop_clocks(self) -> None:
        self._stop_clock()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def last_answer(
    request_id: str, problem: ApplianceError, default_headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """An answer of a connection itself: the documented shape, and then the end."""
    body = wire_errors.body_of(problem)
    headers = [
        *default_headers,
        *wire_errors.headers_of(problem),
        (b"x-request-id", request_id.encode("ascii")),  # OpenAI's, and Anthropic's
        (b"request-id", request_id.encode("ascii")),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"connection", b"close"),
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[status_of(problem)] + lines + b"\r\n" + body


def too_many() -> Unavailable:
    """A refusal of one more connection."""
    return Unavailable("there are too many connections", code="too_many_connections")
