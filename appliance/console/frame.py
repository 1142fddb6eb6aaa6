"""The frame around every page: who is there, what a browser may do, what is said when something goes wrong.

Deny by default. A page names the permission that it needs (`route`); without a session only the pages that
say so are shown. A form counts only from a page of ours: its token is the session's, and the browser says
that it was sent from here (Sec-Fetch-Site, Origin). Every refusal is on the record.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import FormData, Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.accounts.roles import Permission, allows
from appliance.api.incoming import bounded
from appliance.console.render import Pages
from appliance.console.sessions import Session, Sessions
from appliance.core import Caller, Principal
from appliance.errors import ApplianceError, AuditUnavailable, InternalError, Refused, RequestError
from appliance.log import bind_request, get_logger
from appliance.services import Services
from appliance.statuses import status_of

MAX_BODY_BYTES: Final = 1 << 20
_JSON: Final = "application/json"
_MAX_FIELDS: Final = 200
_MAX_AGENT: Final = 256
_BODY_TIMEOUT_SECONDS: Final = 30
# Nothing but what this host serves; no script or style inside a page; nobody else may frame it.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
)

log = get_logger(__name__)


@dataclass(slots=True)
class Call:
    """What the frame knows of one request. Lives in `scope["state"]["call"]`."""

    services: Services
    sessions: Sessions
    pages: Pages
    request_id: str
    caller: Caller
    is_secure: bool
    session: Session | None = None
    status: int = 0
    cookie: str = ""  # sets or removes the session's cookie
    form: FormData = field(default_factory=FormData, repr=False)

    @property
    def known(self) -> Session:
        """The session of a page that needs one."""
        if self.session is None:
            raise InternalError("a page behind the frame runs without a session")
        return self.session

    @property
    def principal(self) -> Principal:
        return self.known.principal

    @property
    def cookie_name(self) -> str:
        """With TLS the browser itself keeps the cookie to this host (RFC 6265bis §4.1.3.2)."""
        return "__Host-session" if self.is_secure else "session"

    def text(self, name: str, *, limit: int = 10_000) -> str:
        """One field of the form, as text; empty where it was not sent."""
        value = self.form.get(name, "")
        if not isinstance(value, str) or len(value) > limit:
            raise RequestError(f"the field {name} is not as it must be", code="invalid_value", param=name)
        return value

    async def file(self, name: str) -> str:
        """The text of a file that was sent with the form; empty where none was."""
        value = self.form.get(name)
        if value is None or isinstance(value, str):
            return ""
        try:
            return (await value.read()).decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError("the file is not a text in UTF-8", code="invalid_file", param=name) from error

    def log_in(self, token: str, session: Session) -> None:
        """The browser holds the session from here on; until it is closed, or the session ends."""
        self.session = session
        secure = "; Secure" if self.is_secure else ""
        self.cookie = f"{self.cookie_name}={token}; Path=/; HttpOnly; SameSite=Strict{secure}"

    def log_out(self) -> None:
        """The browser forgets the session."""
        self.session = None
        secure = "; Secure" if self.is_secure else ""
        self.cookie = f"{self.cookie_name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{secure}"


Handler = Callable[[Request], Awaitable[Response]]


def call_of(request: Request) -> Call:
    """The call that the frame put into the request's scope."""
    call = request.scope["state"]["call"]
    if not isinstance(call, Call):
        raise InternalError("the request did not pass the frame")
    return call


def render(request: Request, template: str, *, status: HTTPStatus = HTTPStatus.OK, **values: Any) -> Response:
    """A page. `values` are shown as text, whatever they hold."""
    return call_of(request).pages.response(call_of(request).session, template, values, status=status)


async def record_refusal(request: Request, *, code: str, status: HTTPStatus) -> None:
    """Put on the record what is refused without the page of errors. AuditUnavailable where it can not be."""
    call = call_of(request)
    await call.services.refusals.record(
        request_id=call.request_id,
        principal=call.session.principal if call.session else None,
        caller=call.caller,
        route=_route_of(request.scope),
        code=code,
        status=status,
    )


def see(path: str) -> Response:
    """On to another page, after a form (RFC 9110 §15.4.4)."""
    return RedirectResponse(path, status_code=HTTPStatus.SEE_OTHER)


async def refuse(request: Request, problem: ApplianceError) -> None:
    """Put a refusal on the record that a page shows beside its form, instead of raising it."""
    await record_refusal(request, code=problem.code, status=status_of(problem))


def route(
    path: str,
    handler: Handler,
    permission: Permission | None,
    *,
    methods: tuple[str, ...] = ("GET",),
    before_enrolment: bool = False,
) -> Route:
    """A page that needs this permission; None: everybody's, also without a session.

    Whoever must set up a second factor sees no page with a permission but those `before_enrolment`.
    """

    async def guarded(request: Request) -> Response:
        call = call_of(request)
        if permission is not None:
            if call.session is None:
                await record_refusal(request, code="not_logged_in", status=HTTPStatus.SEE_OTHER)
                return see("/login")
            if call.session.must_change:
                return see("/passphrase")
            if call.session.must_enrol and not before_enrolment:
                return see("/account/second-factor")
            if not allows(call.principal.role, permission):
                raise Refused(f"your role does not allow to {permission.replace('_', ' ')}")
        try:
            if request.method == "POST":
                await _take_form(request, call)
            return await handler(request)
        finally:
            await call.form.close()  # files that were sent: nothing of them stays

    made = Route(path, guarded, methods=list(methods))
    made.permission = permission  # type: ignore[attr-defined]  # read by tests/house
    return made


def script_route(path: str, handler: Handler) -> Route:
    """A POST of JSON that a script of ours sends. It says its origin, always; no session's rights count here.

    Without a form there is no token: what such a route may do must not hang on who is logged in.
    """

    async def guarded(request: Request) -> Response:
        _require_own(request, call_of(request))
        if "origin" not in request.headers:
            raise Refused("this was not sent by a page", code="cross_site")
        if request.headers.get("content-type", "").partition(";")[0].strip() != _JSON:
            raise RequestError("the body is not JSON", code="invalid_json")
        return await handler(request)

    made = Route(path, guarded, methods=["POST"])
    made.permission = None  # type: ignore[attr-defined]  # read by tests/house
    return made


def _require_own(request: Request, call: Call) -> None:
    """Refused where the browser says that another site sent this (Sec-Fetch-Site, Origin)."""
    origin = request.headers.get("origin")
    own = f"{'https' if call.is_secure else 'http'}://{request.headers.get('host', '')}"
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in {"same-origin", "none"} or (origin is not None and origin != own):
        raise Refused("this form was sent from another site", code="cross_site")


async def _take_form(request: Request, call: Call) -> None:
    """The form's fields. Refused unless a page of ours sent it."""
    _require_own(request, call)
    call.form = await request.form(max_fields=_MAX_FIELDS, max_files=4, max_part_size=MAX_BODY_BYTES)
    if call.session is not None and not hmac.compare_digest(
        call.text("csrf").encode("utf-8", "surrogatepass"), call.session.csrf.encode()
    ):
        raise Refused("this form is from an earlier session", code="cross_site", hint="load the page again")


class Frame:
    """ASGI middleware around all pages."""

    def __init__(
        self, app: ASGIApp, *, services: Services, sessions: Sessions, pages: Pages, is_secure: bool
    ) -> None:
        self._app = app
        self._services = services
        self._sessions = sessions
        self._pages = pages
        self._is_secure = is_secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        client = scope.get("client")
        call = Call(
            services=self._services,
            sessions=self._sessions,
            pages=self._pages,
            request_id=f"con_{secrets.token_hex(16)}",
            caller=Caller(
                address=client[0] if client else "", user_agent=headers.get("user-agent", "")[:_MAX_AGENT]
            ),
            is_secure=self._is_secure,
        )
        scope.setdefault("state", {})["call"] = call
        started_us = self._services.clock.monotonic_us()
        with bind_request(call.request_id):
            await self._handle(scope, headers, call, receive, send)
            log.info(
                "page",
                method=scope["method"],
                route=_route_of(scope),
                status=call.status,
                duration_us=self._services.clock.monotonic_us() - started_us,
                account_id=call.session.principal.key_id if call.session else None,
            )

    async def _handle(self, scope: Scope, headers: Headers, call: Call, receive: Receive, send: Send) -> None:
        started = False

        async def send_stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                call.status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_stamp(call, message)]}
            await send(message)

        try:
            token = Request(scope).cookies.get(call.cookie_name, "")
            # A page that brings itself up to date is nobody's act: it keeps no session alive.
            call.session = await self._sessions.find(token, is_seen="x-by-itself" not in headers)
            form = bounded(scope, receive, max_bytes=MAX_BODY_BYTES, seconds=_BODY_TIMEOUT_SECONDS)
            await self._app(scope, form, send_stamped)
        except ApplianceError as error:
            problem = error
        except HTTPException as error:
            problem = _from_http(error)
        except Exception as error:  # the process edge: a bug of ours is a page that says so
            log.exception("page_crashed", error=type(error).__name__)
            problem = InternalError("the console failed; its operator finds the request id in the log")
        else:
            return
        if started:
            return  # too late for another page: the stream ends where it is
        problem = await self._on_record(problem, scope, call)
        answer = self._told(problem, call, is_script=headers.get("content-type", "").startswith(_JSON))
        await answer(scope, receive, send_stamped)

    def _told(self, problem: ApplianceError, call: Call, *, is_script: bool) -> Response:
        """A page for a person; for a script the code, in the API's shape."""
        status = status_of(problem)
        if is_script:
            return JSONResponse(
                {"error": {"message": problem.message, "code": problem.code}}, status_code=status
            )
        return self._pages.response(
            call.session, "error.html", {"error": problem, "request_id": call.request_id}, status=status
        )

    async def _on_record(self, problem: ApplianceError, scope: Scope, call: Call) -> ApplianceError:
        try:
            await self._services.refusals.record(
                request_id=call.request_id,
                principal=call.session.principal if call.session else None,
                caller=call.caller,
                route=_route_of(scope),
                code=problem.code,
                status=status_of(problem),
            )
        except AuditUnavailable as unavailable:
            return unavailable
        return problem


def _stamp(call: Call, message: Message) -> list[tuple[bytes, bytes]]:
    stamp = [(b"x-request-id", call.request_id.encode("ascii")), *_HEADERS]
    given = {name.lower() for name, _ in message.get("headers", ())}
    if b"cache-control" not in given:
        stamp.append((b"cache-control", b"no-store"))
    if call.is_secure:
        stamp.append((b"strict-transport-security", b"max-age=31536000"))
    if call.cookie:
        stamp.append((b"set-cookie", call.cookie.encode("ascii")))
    # Two cookies stand side by side; of everything else the page's own word counts.
    return [each for each in stamp if each[0] == b"set-cookie" or each[0] not in given]


def _route_of(scope: Scope) -> str:
    """The route's template, never the raw path."""
    found: Any = scope.get("route")
    return getattr(found, "path", "") or "unknown"


def _from_http(error: HTTPException) -> ApplianceError:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return RequestError("this page does not take this method", code="method_not_allowed")
    if error.status_code == HTTPStatus.NOT_FOUND:
        return RequestError("there is no page at this address", code="not_found")
    return RequestError("the form is not as it must be", code="invalid_request")
