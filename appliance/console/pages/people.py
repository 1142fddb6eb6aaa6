"""People's accounts, for admins. A first passphrase stands on one page, once; it only lets choose another."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.accounts import Account
from appliance.accounts.entrances import Entrance
from appliance.accounts.roles import Permission
from appliance.console.frame import Call, call_of, render, route, see
from appliance.console.pages.forms import not_done
from appliance.console.pages.keys import LIFETIMES, lifetime_of, state_of
from appliance.console.render import NavItem
from appliance.core import PEOPLE, Role
from appliance.errors import RequestError
from appliance.people import MadeAccount

ROLES: Final = {
    Role.OPERATOR: "runs the box, reads nothing",
    Role.ADMIN: "as operator, and makes accounts",
    Role.AUDITOR: "reads the record",
    Role.PRIVACY: "erasures and holds; reads nothing",
    Role.WITNESS: "cosigns checkpoints",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One account as the list shows it."""

    account: Account
    state: str
    mark: str
    may_change: bool
    entrance: Entrance


async def page(request: Request) -> Response:
    """The list, and the form for another."""
    return _page(request)


def _page(
    request: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK, *, name: str = ""
) -> Response:
    call = call_of(request)
    now_us = call.services.clock.now_us()
    shown = [_shown(call, each, now_us) for each in call.services.people.list()]
    shown.sort(key=lambda each: (not each.mark, -each.account.created_us))
    return render(
        request,
        "operator/people.html",
        status=status,
        active="/people",
        people=shown,
        num_active=sum(bool(each.mark) for each in shown),
        roles=[(role, ROLES[role]) for role in PEOPLE],
        lifetimes=LIFETIMES,
        problem=problem,
        name=name,
    )


def _shown(call: Call, account: Account, now_us: int) -> Shown:
    state, mark = state_of(account.expires_us, account.disabled_us, now_us)
    state = {"revoked": "disabled"}.get(state, state)
    if mark and account.must_change:
        state, mark = "not logged in yet", "warn"
    is_self = account.id == call.principal.key_id
    entrance = call.services.people.entering.of(account.id)
    may_change = account.is_active(now_us) and not is_self
    return Shown(account, state, mark, may_change=may_change, entrance=entrance)


async def create(request: Request) -> Response:
    """A new person. The passphrase is in this answer and nowhere else."""
    call = call_of(request)
    name = call.text("name", limit=200)
    try:
        made = await call.services.people.create(
            name, _role(call), expires_seconds=lifetime_of(call), by=call.principal
        )
    except RequestError as problem:
        return _page(request, *await not_done(request, problem), name=name)
    return _made(request, made, is_new=True)


async def confirm(request: Request) -> Response:
    """Is this the person who is meant, and what is to happen?"""
    call = call_of(request)
    person = _find(request)
    return render(
        request,
        "operator/person.html",
        active="/people",
        person=person,
        entrance=call.services.people.entering.of(person.id),
        num_sessions=len(call.sessions.of(person.id)),
    )


async def reset(request: Request) -> Response:
    """Another one-time passphrase."""
    call = call_of(request)
    made = await call.services.people.reset(_find(request).id, by=call.principal)
    return _made(request, made, is_new=False)


async def reset_factor(request: Request) -> Response:
    """Somebody lost their authenticator and their recovery codes: another one is due."""
    call = call_of(request)
    known, receipt = await call.services.people.factors.reset(_find(request).id, by=call.principal)
    call.known.notice = f"{known.name} sets up another second factor at the next log-in: {receipt.record}"
    return see("/people")


async def end_sessions(request: Request) -> Response:
    """Out everywhere; they may log in again."""
    call = call_of(request)
    person = _find(request)
    count = await call.sessions.end_all(person.id, by=call.principal)
    call.known.notice = f"{person.name} is logged out: {count} session{'' if count == 1 else 's'} ended."
    return see("/people")


async def disable(request: Request) -> Response:
    """Out with the commit, open sessions too."""
    call = call_of(request)
    known, receipt = await call.services.people.disable(_find(request).id, by=call.principal)
    call.known.notice = f"The account of {known.name} is disabled: {receipt.record}"
    return see("/people")


def _made(request: Request, made: MadeAccount, *, is_new: bool) -> Response:
    return render(
        request,
        "operator/person_made.html",
        active="/people",
        person=made.account,
        passphrase=made.passphrase,
        record=made.receipt.record,
        is_new=is_new,
    )


def _find(request: Request) -> Account:
    """Somebody else's account in force: nobody locks themselves out by a slip."""
    call = call_of(request)
    found = call.services.people.active(request.path_params["account_id"])
    if found is None or found.id == call.principal.key_id:
        raise RequestError("no other account in force has this id", code="not_found")
    return found


def _role(call: Call) -> Role:
    try:
        return Role(call.text("role", limit=32))
    except ValueError as error:
        raise RequestError("there is no such role", code="invalid_role", param="role") from error


ROUTES = [
    route("/people", page, Permission.MANAGE_ACCOUNTS),
    route("/people", create, Permission.MANAGE_ACCOUNTS, methods=("POST",)),
    route("/people/{account_id}", confirm, Permission.MANAGE_ACCOUNTS),
    route("/people/{account_id}/reset", reset, Permission.MANAGE_ACCOUNTS, methods=("POST",)),
    route("/people/{account_id}/second-factor", reset_factor, Permission.MANAGE_ACCOUNTS, methods=("POST",)),
    route("/people/{account_id}/sessions", end_sessions, Permission.MANAGE_ACCOUNTS, methods=("POST",)),
    route("/people/{account_id}/disable", disable, Permission.MANAGE_ACCOUNTS, methods=("POST",)),
]
MENU = [NavItem("People", "/people", Permission.MANAGE_ACCOUNTS)]
