"""The outermost ring: every request gets an id, a principal, bounds, one log line, and an answer
in one shape.

Deny by default: only `/healthz` is answered without a key. Every refusal — unauthenticated,
forbidden, malformed, unknown path — is on the audit log before its response leaves; where the log
can not take it, the response is 503 `audit_unavailable` instead (law 4).
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.accounts.directory import require_address
from appliance.api import entering, messages_errors, presented
from appliance.api import errors as wire
from appliance.api.incoming import bounded
from appliance.api.listening.peer import wire_of
from appliance.core import Caller, Principal, Receipt
from appliance.errors import (
    ApplianceError,
    AuditUnavailable,
    InternalError,
    Refused,
    RequestError,
)
from appliance.log import bind_request, get_logger
from appliance.services import Services
from appliance.statuses import status_of
from appliance.tls.certificates import About

OPEN_PATHS = frozenset({"/healthz"})
MAX_USER_AGENT_CHARACTERS = 256

log = get_logger(__name__)


@dataclass(slots=True)
class Visit:
    """What the border knows of one request. Lives in `scope["state"]["visit"]`."""

    request_id: str
    caller: Caller
    principal: Principal | None = None
    receipt: Receipt | None = None  # of the opening: set by the route that made one
    is_replay: bool = False  # asked again under its idempotency key: the opening is that of the first time
    answer_id: str = ""  # of the request that is answered: in a replay, that of the first time
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # besides the answer's own

    @property
    def known_principal(self) -> Principal:
        if self.principal is None:
            raise InternalError("a route behind the border runs without a principal")
        return self.principal


def visit_of(scope: Scope) -> Visit:
    """The visit that the border put into the request's scope."""
    visit = scope["state"]["visit"]
    if not isinstance(visit, Visit):
        raise InternalError("the request did not pass the border")
    return visit


class Border:
    """ASGI middleware around the whole API."""

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        client = scope.get("client")
        certificate = wire_of(scope).certificate
        visit = Visit(
            request_id=f"req_{secrets.token_hex(16)}",
            caller=Caller(
                address=client[0] if client else "",
                user_agent=headers.get("user-agent", "")[:MAX_USER_AGENT_CHARACTERS],
                certificate=certificate.sha256 if certificate else "",
                subject=certificate.subject if certificate else "",
            ),
        )
        scope.setdefault("state", {})["visit"] = visit
        started_us = self._services.clock.monotonic_us()
        with bind_request(visit.request_id):
            await self._handle(scope, headers, visit, receive, send)
            log.info(
                "request",
                method=scope["method"],
                route=route_of(scope),
                status=visit.status,
                duration_us=self._services.clock.monotonic_us() - started_us,
                key_id=visit.principal.key_id if visit.principal else None,
                record=visit.receipt.seq if visit.receipt else None,
            )

    async def _handle(
        self, scope: Scope, headers: Headers, visit: Visit, receive: Receive, send: Send
    ) -> None:
        started = False

        async def send_stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                visit.status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_stamp(visit)]}
            await send(message)

        try:
            self._enter(scope, headers, visit)
            await self._app(scope, self._bounded(scope, receive), send_stamped)
        except ApplianceError as error:
            problem = error
        except HTTPException as error:
            problem = _from_http(error)
            if error.headers and "allow" in error.headers:  # RFC 9110 §15.5.6
                visit.headers.append((b"allow", error.headers["allow"].encode("ascii")))
        except Exception as error:  # the process edge: a bug of ours answers 500, in shape
            log.exception("request_crashed", error=type(error).__name__)
            problem = InternalError("the appliance failed; its operator finds the request id in the log")
        else:
            return
        if started:  # too late for a status: the route ends its own stream with an error event
            return
        problem = await self._on_record(problem, scope, visit)
        await _respond(problem, _body_of(problem, scope, visit), send_stamped)

    def _enter(self, scope: Scope, headers: Headers, visit: Visit) -> None:
        """Who it is, and whether this is a request at all that a route may see."""
        shown = presented.key_shown_in(scope)
        if shown is not None:
            # Whose key it is helps to revoke it; that it was shown here opens nothing.
            with contextlib.suppress(Refused):
                visit.principal = self._services.directory.authenticate(
                    shown, now_us=self._services.clock.now_us()
                )
            raise presented.key_in_url()
        is_plain = presented.is_plain(scope)
        if not is_plain or scope["path"] not in OPEN_PATHS:
            visit.principal = self._authenticate(headers, wire_of(scope).certificate)
            require_address(visit.principal, visit.caller.address)
        if not is_plain:
            raise RequestError("there is nothing at this path", code="not_found")
        try:
            presented.check_content(headers)
        except RequestError:
            visit.headers.append((b"accept-encoding", b"identity"))  # RFC 9110 §15.5.16
            raise

    def _authenticate(self, headers: Headers, certificate: About | None) -> Principal:
        """Bearer and x-api-key pass through one and the same check; so do certificates."""
        return entering.principal_of(
            self._services.directory,
            presented.token_of(headers),
            certificate,
            now_us=self._services.clock.now_us(),
        )

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        server = self._services.settings.server
        return bounded(
            scope,
            receive,
            max_bytes=server.max_body_bytes,
            seconds=server.body_timeout_seconds,
            hint="server.max_body_bytes sets the limit",
        )

    async def _on_record(self, problem: ApplianceError, scope: Scope, visit: Visit) -> ApplianceError:
        """Put a refusal on the record, unless the request has an opening (its closing tells all)."""
        self._services.metrics.request_refused(problem.code)
        if visit.receipt is not None:
            return problem
        try:
            await self._services.refusals.record(
                request_id=visit.request_id,
                principal=visit.principal,
                caller=visit.caller,
                route=route_of(scope),
                code=problem.code,
                status=status_of(problem),
            )
        except AuditUnavailable as unavailable:
            return unavailable
        return problem


def _stamp(visit: Visit) -> list[tuple[bytes, bytes]]:
    request_id = visit.request_id.encode("ascii")
    stamp = [(b"x-request-id", request_id), (b"request-id", request_id)]  # OpenAI's, Anthropic's
    stamp += visit.headers
    if visit.receipt is not None:
        stamp.append((b"x-audit-record", visit.receipt.record.encode("ascii")))
        stamp.append((b"x-audit-leaf", visit.receipt.leaf.hex().encode("ascii")))
    if visit.is_replay:
        stamp.append((b"idempotency-replayed", b"true"))
    return stamp


def route_of(scope: Scope) -> str:
    """The route's template, never the raw path: a path can carry anything a caller typed."""
    route: Any = scope.get("route")
    return getattr(route, "path", "") or "unknown"


def _from_http(error: HTTPException) -> ApplianceError:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return RequestError("this path does not take this method", code="method_not_allowed")
    if error.status_code == HTTPStatus.NOT_FOUND:
        return RequestError("there is nothing at this path", code="not_found")
    return RequestError("the request is not valid", code="invalid_request")


def _body_of(problem: ApplianceError, scope: Scope, visit: Visit) -> bytes:
    """Each caller hears of an error in the shape that its kind of client parses: the path tells which."""
    if messages_errors.speaks(scope["path"]):
        return messages_errors.body_of(problem, visit.request_id)
    return wire.body_of(problem)


async def _respond(problem: ApplianceError, body: bytes, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": int(status_of(problem)),
            "headers": [*wire.headers_of(problem), (b"content-length", str(len(body)).encode("ascii"))],
        }
    )
    await send({"type": "http.response.body", "body": body})
