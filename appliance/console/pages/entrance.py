"""Logging in and out, and the passphrase that somebody chooses at the first log-in."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from appliance.console.frame import call_of, refuse, render, route, see
from appliance.errors import Refused, RequestError
from appliance.statuses import status_of


async def front(request: Request) -> Response:
    """To the first page of one's role."""
    call = call_of(request)
    if call.session is None:
        return see("/login")
    if call.session.must_change:
        return see("/passphrase")
    return see(call.pages.menu_of(call.principal.role)[0].path)


async def ask(request: Request) -> Response:
    """The form."""
    return see("/") if call_of(request).session is not None else render(request, "login.html", problem="")


async def log_in(request: Request) -> Response:
    """A name and a passphrase → a session, or the form again with one and the same words."""
    call = call_of(request)
    try:
        known = await call.services.people.log_in(
            call.text("name", limit=200), call.text("passphrase", limit=1000), call.caller
        )
    except Refused as refused:
        await refuse(request, refused)
        return render(request, "login.html", status=status_of(refused), problem=refused.message)
    if call.session is not None:
        await call.sessions.close(call.session)
    call.log_in(*await call.sessions.open(known, call.caller))
    return see("/")


async def log_out(request: Request) -> Response:
    """The session ends, here and in the browser."""
    call = call_of(request)
    if call.session is not None:
        await call.sessions.close(call.session)
    call.log_out()
    return see("/login")


async def choose(request: Request) -> Response:
    """The form for another passphrase."""
    if call_of(request).session is None:
        return see("/login")
    return render(request, "passphrase.html", problem="")


async def change(request: Request) -> Response:
    """A passphrase of one's own: nobody else knows it from here on."""
    call = call_of(request)
    if call.session is None:
        return see("/login")
    new = call.text("new", limit=1000)
    try:
        if new != call.text("again", limit=1000):
            raise RequestError("the two new passphrases differ", code="invalid_passphrase")
        known = await call.services.people.change_passphrase(
            call.principal.key_id, call.caller, current=call.text("current", limit=1000), new=new
        )
    except (RequestError, Refused) as problem:
        await refuse(request, problem)
        told = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
        return render(request, "passphrase.html", status=HTTPStatus.BAD_REQUEST, problem=told)
    # A fresh session: whoever saw the old one's secret has nothing of it.
    await call.sessions.close(call.session)
    token, session = await call.sessions.open(known, call.caller)
    session.notice = "Your passphrase is changed."
    call.log_in(token, session)
    return see("/")


ROUTES = [
    route("/", front, None),
    route("/login", ask, None),
    route("/login", log_in, None, methods=("POST",)),
    route("/logout", log_out, None, methods=("POST",)),
    route("/passphrase", choose, None),
    route("/passphrase", change, None, methods=("POST",)),
]
