"""One port: who is let in, over TLS or not, and what is said of those who are not.

A handshake costs far more than a connection, and takes as long as its client likes. So connections are
accepted and counted here, and the handshake begins behind that, in its time, with the context that is served
at this moment. uvicorn does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import uvicorn

from appliance.api.listening.connection import (
    FLUSH_SECONDS,
    Bounds,
    Connection,
    last_answer,
    too_many,
)
from appliance.api.listening.crowd import Crowd, Most
from appliance.core import Caller
from appliance.errors import ApplianceError, AuditUnavailable, Refused, RequestError
from appliance.log import get_logger
from appliance.services import Services
from appliance.statuses import status_of

_AT_ONCE: Final = 64  # connections that are accepted before anything else has its turn
_NO_ROOM_SECONDS: Final = 0.5  # until it is tried again where the system has no file left
_UNREAD_BYTES: Final = 1 << 16
_NO_ROUTE: Final = "unknown"
_VERIFYING: Final = frozenset({"CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"})

log = get_logger(__name__)


class Port(uvicorn.Server):
    """uvicorn, but for how a connection comes in and what one may take. Owner of the count of its port."""

    def __init__(
        self,
        settings: uvicorn.Config,
        services: Services,
        context: Callable[[], ssl.SSLContext] | None,
        *,
        prefix: str,
    ) -> None:
        """`context`: what is served now; None: no TLS. `prefix` begins the ids of requests."""
        super().__init__(settings)
        server = services.settings.server
        self._services = services
        self._context = context
        self._prefix = prefix
        self._crowd = Crowd(Most(server.max_connections, server.max_connections_per_address))
        self._bounds = Bounds(
            header_seconds=server.header_timeout_seconds,
            keep_alive_seconds=server.keep_alive_seconds,
            send_seconds=server.send_timeout_seconds,
            header_bytes=server.max_header_bytes,
        )
        self._shaking: set[socket.socket] = set()  # accepted, and not through their handshake

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn raises a caught signal anew when it is done, which would end the process before the log has
        its last entry: here a signal only asks it to stop.
        """
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept on these."""
        await self.lifespan.startup()
        self.servers = [_Accepting(each, self._on_accepted) for each in sockets or ()]  # type: ignore[misc]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Whoever is not in yet does not come in any more."""
        for each in self._shaking:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        await super().shutdown(sockets)

    async def report(self, address: str, problem: ApplianceError) -> tuple[str, ApplianceError]:
        """Put a refusal on the record that no application saw: its id, and what is answered."""
        request_id = f"{self._prefix}{secrets.token_hex(16)}"
        self._services.metrics.request_refused(problem.code)
        log.info("connection_refused", code=problem.code)
        if not self._services.doors.is_open:  # nothing is recorded then: going back would lose it
            return request_id, problem
        try:
            await self._services.refusals.record(
                request_id=request_id,
                principal=None,
                caller=Caller(address=address),
                route=_NO_ROUTE,
                code=problem.code,
                status=status_of(problem),
            )
        except AuditUnavailable as unavailable:
            return request_id, unavailable
        return request_id, problem

    def _on_accepted(self, accepted: socket.socket, address: str) -> None:
        if self._crowd.admit(address):
            self._begin(self._let_in(accepted, address))
        else:
            self._begin(self._send_away(accepted, address))

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    async def _let_in(self, accepted: socket.socket, address: str) -> None:
        """From here on it has a place in the crowd, which it or this function gives back."""
        loop = asyncio.get_running_loop()
        context = self._context() if self._context is not None else None
        connection = Connection(
            self.config,
            self.server_state,
            self.lifespan.state,
            loop,
            bounds=self._bounds,
            on_lost=lambda: self._crowd.release(address),
            report=self.report,
        )
        over_tls: dict[str, Any] = {
            "ssl": context,
            "ssl_handshake_timeout": self._bounds.header_seconds,
            "ssl_shutdown_timeout": FLUSH_SECONDS,
        }
        problem: ApplianceError | None = None
        self._shaking.add(accepted)
        try:
            await loop.connect_accepted_socket(
                lambda: connection, accepted, **(over_tls if context is not None else {})
            )
        except ssl.SSLError as error:
            problem = _problem_of(error)
        except OSError:  # it went away, or took too long: nothing was asked, so nothing is refused
            log.debug("handshake_abandoned")
        finally:
            self._shaking.discard(accepted)
            if not connection.is_made:
                self._crowd.release(address)
        if problem is not None:
            await self.report(address, problem)

    async def _send_away(self, accepted: socket.socket, address: str) -> None:
        """503 without having read anything; over TLS nothing at all, as a handshake would cost too much."""
        with accepted:
            request_id, told = await self.report(address, too_many())
            if self._context is None:
                with contextlib.suppress(OSError):  # it does not wait for its answer, or does not take it
                    accepted.send(last_answer(request_id, told, self.server_state.default_headers))
                    accepted.shutdown(socket.SHUT_WR)
                    accepted.recv(_UNREAD_BYTES)  # else the system would take back what was just sent


class _Accepting:
    """What uvicorn knows as a server: it can be closed, and that can be waited for."""

    def __init__(self, listener: socket.socket, on_accepted: Callable[[socket.socket, str], None]) -> None:
        self._listener = listener
        self._on_accepted = on_accepted
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        listener.setblocking(False)  # noqa: FBT003 - its own name for it
        self._resume()

    def close(self) -> None:
        """Accept nothing more. The socket is its owner's to close."""
        self._loop.remove_reader(self._listener)
        if self._again is not None:
            self._again.cancel()

    def wait_closed(self) -> Awaitable[None]:
        """Nothing is left to wait for."""
        return asyncio.sleep(0)

    def _resume(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener, self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No file or memory is left: who is in goes on, the others wait in the kernel's queue.
                log.error("can_not_accept", error=type(error).__name__)
                self._loop.remove_reader(self._listener)
                self._again = self._loop.call_later(_NO_ROOM_SECONDS, self._resume)
                return
            accepted.setblocking(False)  # noqa: FBT003 - its own name for it
            self._on_accepted(accepted, str(address[0]))


def _problem_of(error: ssl.SSLError) -> ApplianceError:
    """OpenSSL's reason, in two kinds: nothing of what was sent is repeated."""
    if error.reason in _VERIFYING:
        return Refused("the client's certificate is not accepted", code="certificate_refused")
    return RequestError("the TLS handshake failed", code="tls_failed")
