"""One's own account: the second factor, the sessions, and what happened at the entrance since the last time.

A secret and recovery codes stand in one answer each: the page behind the form. Until a code of it was typed,
the secret waits in the session, so that a slip of the finger does not ask for another one.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.accounts import Account
from appliance.accounts.codes import DIGITS, Offer
from appliance.accounts.roles import Permission
from appliance.console.frame import Call, call_of, render, route, see
from appliance.console.pages.entrance import told_to_wait
from appliance.console.pages.forms import not_done
from appliance.errors import Refused, RequestError, Unavailable

_OWN: Final = Permission.SEE_OWN_ACCOUNT


async def page(request: Request) -> Response:
    """Everything about oneself."""
    call = call_of(request)
    known = _own(call)
    return render(
        request,
        "account/account.html",
        active="/account",
        person=known,
        entrance=call.services.people.entering.of(known.id),
        sessions=call.sessions.of(known.id),
        is_required=call.services.people.entering.is_required(known.role),
    )


async def end_others(request: Request) -> Response:
    """Out everywhere else."""
    call = call_of(request)
    count = await call.sessions.end_others(call.known)
    call.known.notice = f"{count} other sessions ended." if count != 1 else "1 other session ended."
    return see("/account")


async def second_factor(request: Request) -> Response:
    """How it stands, and the forms."""
    return _state(request)


def _state(request: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    call = call_of(request)
    known = _own(call)
    return render(
        request,
        "account/second_factor.html",
        status=status,
        active="/account",
        entrance=call.services.people.entering.of(known.id),
        must_enrol=call.known.must_enrol,
        problem=problem,
    )


async def begin(request: Request) -> Response:
    """A secret to scan, once it is sure that its owner asks."""
    call = call_of(request)
    known = _own(call)
    has_one = call.services.people.entering.of(known.id).factor is not None
    try:
        await _prove(call, known, code=call.text("code", limit=100) if has_one else None)
    except (Refused, Unavailable) as problem:
        return told_to_wait(_state(request, *await not_done(request, problem)), problem)
    call.known.drop(Offer)
    return _offered(request, call.known.keep(call.services.people.factors.offer(known)))


def _offered(request: Request, name: str, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    offered = call_of(request).known.kept(name)
    if not isinstance(offered, Offer):
        return see("/account/second-factor")
    return render(
        request,
        "account/offer.html",
        status=status,
        active="/account",
        offered=offered,
        name=name,
        qr=_qr_of(offered.uri),
        digits=DIGITS,
        problem=problem,
    )


async def confirm(request: Request) -> Response:
    """A code of it was typed: it is in force, and the recovery codes are in this answer and nowhere else."""
    call = call_of(request)
    name = call.text("name", limit=64)
    offered = call.known.kept(name)
    if not isinstance(offered, Offer):
        return see("/account/second-factor")
    try:
        fresh = await call.services.people.factors.confirm(
            _own(call), offered, call.text("code", limit=100), call.caller
        )
    except RequestError as problem:
        return _offered(request, name, *await not_done(request, problem))
    call.known.drop(Offer)
    call.sessions.keep_factor(call.known)
    return _codes(request, fresh, is_new=True)


async def renew(request: Request) -> Response:
    """Ten fresh recovery codes."""
    call = call_of(request)
    known = _own(call)
    try:
        await _prove(call, known, code=call.text("code", limit=100))
        fresh = await call.services.people.factors.renew(known, call.caller)
    except (Refused, RequestError, Unavailable) as problem:
        return told_to_wait(_state(request, *await not_done(request, problem)), problem)
    return _codes(request, fresh, is_new=False)


def _codes(request: Request, fresh: tuple[str, ...], *, is_new: bool) -> Response:
    return render(request, "account/recovery.html", active="/account", codes=fresh, is_new=is_new)


async def _prove(call: Call, known: Account, *, code: str | None) -> None:
    words = call.text("passphrase", limit=1000)
    await call.services.people.entering.prove(known, words, code, call.caller)


def _own(call: Call) -> Account:
    found = call.services.people.active(call.principal.key_id)
    if found is None:
        raise Refused("your account is over", code="not_logged_in")
    return found


def _qr_of(uri: str) -> Markup:
    """What an authenticator's camera reads, in SVG."""
    code = segno.make_qr(uri.encode(), error="m")
    title = "The secret as a QR code"
    drawn = code.svg_inline(scale=4, border=4, svgclass="qr", title=title, omitsize=True)
    return Markup(drawn)  # noqa: S704 - squares, drawn by segno


ROUTES = [
    route("/account", page, _OWN),
    route("/account/others", end_others, _OWN, methods=("POST",)),
    route("/account/second-factor", second_factor, _OWN, before_enrolment=True),
    route("/account/second-factor", begin, _OWN, methods=("POST",), before_enrolment=True),
    route("/account/second-factor/confirm", confirm, _OWN, methods=("POST",), before_enrolment=True),
    route("/account/second-factor/recovery", renew, _OWN, methods=("POST",)),
]
