"""Logging in and out, and the passphrase that somebody chooses at the first log-in."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.entrances import Entrance
from appliance.accounts.lockout import Locked
from appliance.accounts.passphrases import MIN_ALONE
from appliance.console.frame import call_of, refuse, render, route, see
from appliance.console.render import clock
from appliance.errors import ApplianceError, Refused, RequestError, Unavailable
from appliance.statuses import status_of


async def front(request: Request) -> Response:
    """To the first page of one's role."""
    call = call_of(request)
    if call.session is None:
        return see("/login")
    if call.session.must_change:
        return see("/passphrase")
    if call.session.must_enrol:
        return see("/account/second-factor")
    return see(call.pages.menu_of(call.principal.role)[0].path)


async def ask(request: Request) -> Response:
    """The form."""
    return see("/") if call_of(request).session is not None else render(request, "login.html", problem="")


async def log_in(request: Request) -> Response:
    """A name and a passphrase → a session, or the form again with one and the same words."""
    call = call_of(request)
    people = call.services.people
    try:
        entered = await people.log_in(
            call.text("name", limit=200),
            call.text("passphrase", limit=1000),
            call.caller,
            code=call.text("code", limit=100),
        )
    except Refused as refused:
        await refuse(request, refused)
        return told_to_wait(
            render(request, "login.html", status=status_of(refused), problem=refused.message), refused
        )
    if call.session is not None:
        await call.sessions.close(call.session)
    token, session = await call.sessions.open(
        entered.account, call.caller, must_enrol=people.entering.must_enrol(entered.account)
    )
    session.notice = last_time(entered.before)
    session.is_warning = entered.before.failures > 0
    call.log_in(token, session)
    return see("/")


def last_time(before: Entrance) -> str:
    """What somebody is told of the time before this log-in (NIST SP 800-53 AC-9); empty at the first."""
    told = [f"You logged in last at {clock(before.entered_us)} UTC."] if before.entered_us else []
    if before.failures and before.failed_us:
        tries = f"{before.failures} wrong tries" if before.failures > 1 else "1 wrong try"
        told.append(f"Since then: {tries} under your name, the last at {clock(before.failed_us)} UTC.")
    if before.wrong_codes:
        told.append(
            f"{before.wrong_codes} of them with your passphrase and a wrong code: "
            "if that was not you, change it."
        )
    return " ".join(told)


def told_to_wait(answer: Response, problem: ApplianceError) -> Response:
    """With `Retry-After`, where it says how long (RFC 9110 §10.2.3)."""
    if isinstance(problem, Locked | Unavailable):
        answer.headers["retry-after"] = str(problem.retry_after_seconds)
    return answer


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
    return _form(request)


def _form(request: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    call = call_of(request)
    known = call.services.people.active(call.principal.key_id)
    least = call.services.people.entering.least_characters(known) if known is not None else MIN_ALONE
    return render(request, "passphrase.html", status=status, problem=problem, least=least)


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
        return told_to_wait(_form(request, told, HTTPStatus.BAD_REQUEST), problem)
    # A fresh session: whoever saw the old one's secret has nothing of it.
    await call.sessions.close(call.session)
    token, session = await call.sessions.open(
        known, call.caller, must_enrol=call.services.people.entering.must_enrol(known)
    )
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
