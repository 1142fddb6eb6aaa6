"""Setting up a lobby's screen: somebody of the staff, logged in at that screen, gives it a kiosk's key."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.directory import require_address
from appliance.accounts.roles import Permission
from appliance.audit.entry import Entry, person_of
from appliance.audit.kinds import Kind
from appliance.console import screen
from appliance.console.frame import Call, call_of, render, route, see
from appliance.console.pages.forms import not_done
from appliance.console.render import NavItem
from appliance.core import Role
from appliance.errors import Refused, RequestError

_SETUP: Final = "/kiosk/setup"
_LIFETIMES: Final = {"90": 90 * 86_400, "366": 366 * 86_400, "": None}


async def show(request: Request) -> Response:
    """Which key this browser holds, and the ways to another."""
    return _page(request)


async def create(request: Request) -> Response:
    """A new kiosk's key, straight into this browser: nobody sees it."""
    call = call_of(request)
    lifetime = call.text("lifetime", limit=10)
    if lifetime not in _LIFETIMES:
        raise RequestError("the key's life is not one of those on the page", code="invalid_expiry")
    try:
        made = await call.services.administration.create_key(
            call.text("name", limit=200).strip(),
            Role.KIOSK,
            expires_seconds=_LIFETIMES[lifetime],
            by=call.principal,
        )
    except (RequestError, Refused) as problem:
        return _page(request, *await not_done(request, problem))
    return await _enrol(call, made.new.token, made.new.key.id, made.new.key.name)


async def paste(request: Request) -> Response:
    """A key that was made elsewhere, into this browser."""
    call = call_of(request)
    token = call.text("key", limit=200).strip()
    try:
        found = call.services.directory.authenticate(token, now_us=call.services.clock.now_us())
        if found.role is not Role.KIOSK:
            raise Refused("this is not a kiosk's key; a screen takes no other", code="permission_denied")
        require_address(found, call.caller.address)  # this browser is the screen
    except Refused as refused:
        return _page(request, *await not_done(request, refused))
    return await _enrol(call, token, found.key_id, found.name)


async def remove(request: Request) -> Response:
    """This browser forgets its key; with `revoke`, nobody else can use it either."""
    call = call_of(request)
    held = screen.principal_of(request)
    if held is not None:
        await _record(call, Kind.SCREEN_REMOVED, held.key_id)
        if call.text("revoke", limit=10):
            await call.services.administration.revoke_key(held.key_id, by=call.principal)
    call.known.notice = "This screen holds no key any more."
    page = see(_SETUP)
    screen.forget(page, call)
    return page


async def leave(request: Request) -> Response:
    """The person leaves, whoever it is, and the lobby's page begins."""
    call = call_of(request)
    if call.session is not None:
        await call.sessions.close(call.session)
    call.log_out()
    return see("/kiosk")


async def _enrol(call: Call, token: str, key_id: str, name: str) -> Response:
    await _record(call, Kind.SCREEN_ENROLLED, key_id)
    call.known.notice = f"This screen holds the key “{name}”."
    page = see(_SETUP)
    screen.keep(page, call, token)
    return page


async def _record(call: Call, kind: Kind, key_id: str) -> None:
    """Before the browser has the key, or has lost it."""
    await call.services.audit.append(
        Entry(
            kind=kind,
            content={
                "key_id": key_id,
                "principal": person_of(call.principal),
                "caller": {"address": call.caller.address, "user_agent": call.caller.user_agent},
            },
            actor=call.principal.key_id,
        )
    )


def _page(request: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    call = call_of(request)
    held = screen.principal_of(request)
    directory = call.services.directory
    return render(
        request,
        "kiosk/setup.html",
        status=status,
        active=_SETUP,
        problem=problem,
        screen=directory.find(held.key_id, now_us=call.services.clock.now_us()) if held else None,
        holds_dead_key=held is None and bool(screen.token_of(request)),
        language=request.app.state.words,
        settings=call.services.settings.kiosk,
    )


MENU = [NavItem("Lobby screen", _SETUP, Permission.MANAGE_KEYS)]
ROUTES = [
    route(_SETUP, show, Permission.MANAGE_KEYS),
    route(f"{_SETUP}/create", create, Permission.MANAGE_KEYS, methods=("POST",)),
    route(f"{_SETUP}/paste", paste, Permission.MANAGE_KEYS, methods=("POST",)),
    route(f"{_SETUP}/remove", remove, Permission.MANAGE_KEYS, methods=("POST",)),
    route("/kiosk/leave", leave, None, methods=("POST",)),
]
