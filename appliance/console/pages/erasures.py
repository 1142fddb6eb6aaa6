"""Erasures: whose content is to go, what that would destroy, and the act that two people sign.

A look at what would be destroyed tells whether somebody is on the record: it is on the record itself, as a
search, before its result is shown.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission
from appliance.audit import ceremonies
from appliance.audit.acts import Act, Draft
from appliance.audit.kinds import Kind
from appliance.console.frame import Call, call_of, refuse, render, route, see
from appliance.console.pages import acts_words
from appliance.console.pages.acts import said, told
from appliance.console.render import NavItem
from appliance.custody import Foreseen
from appliance.errors import RequestError

_PATH = "/erasures"
_FIELDS = ("user", "key", "since", "until", "reason", "basis")
_MAX_NAME = 512


@dataclass(frozen=True, slots=True)
class Look:
    """What was asked for and what it would do; kept in the session, so that no address names a person."""

    draft: Draft = field(repr=False)
    foreseen: Foreseen


async def form(request: Request) -> Response:
    """Whose content, why, and by what right."""
    return await _form(request, dict.fromkeys(_FIELDS, ""))


async def look(request: Request) -> Response:
    """Count what an erasure would destroy."""
    call = call_of(request)
    given = {name: call.text(name).strip() for name in _FIELDS}
    try:
        if len(given["user"]) > _MAX_NAME:
            raise RequestError(f"a person's name has at most {_MAX_NAME} characters", code="invalid_erasure")
        draft = ceremonies.draft_erasure(call.services.audit.policy, call.services.audit.origin, **given)
    except RequestError as problem:
        return await _form(request, given, problem=problem)
    # A look tells whether a name is on the record: it counts as a search of whoever looks.
    await call.services.auditing.require_volume(call.principal.key_id, Kind.AUDIT_SEARCHED)
    foreseen = await call.services.approvals.foresee(draft, call.principal, call.caller)
    return see(f"{_PATH}/{call.known.keep(Look(draft, foreseen))}")


async def seen(request: Request) -> Response:
    """What it would destroy, and what stands in its way."""
    call = call_of(request)
    found = _kept(call, request.path_params["name"])
    return render(
        request,
        "privacy/look.html",
        active=_PATH,
        name=request.path_params["name"],
        look=found,
        given=found.draft.parameters,
        months=acts_words.span_of(str(found.draft.parameters["since"]), str(found.draft.parameters["until"])),
        covers=acts_words.covers,
        problem="",
    )


async def draft(request: Request) -> Response:
    """Put it before those who decide."""
    call = call_of(request)
    found = _kept(call, call.text("look"))
    made = await call.services.approvals.draft(found.draft, call.principal, call.caller)
    call.known.notice = (
        "The erasure is drafted. Two members of the key policy sign it; then it is carried out."
    )
    return see(f"/acts/{made.row.id}")


def _kept(call: Call, name: str) -> Look:
    found = call.known.kept(name)
    if not isinstance(found, Look):
        raise RequestError("this look is forgotten", code="not_found", hint="fill in the form again")
    return found


async def _form(request: Request, given: dict[str, str], *, problem: RequestError | None = None) -> Response:
    call = call_of(request)
    if problem is not None:
        await refuse(request, problem)
    standings = await asyncio.to_thread(call.services.approvals.all)
    waiting = [each for each in standings if each.row.is_open and each.row.kind == Act.ERASE]
    return render(
        request,
        "privacy/erasures.html",
        status=HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
        active=_PATH,
        problem=said(problem),
        given=given,
        keys=call.services.directory.all(),
        waiting=[(each, told(call, each)) for each in waiting],
        max_words=ceremonies.MAX_WORDS,
    )


MENU = [NavItem("Erasures", _PATH, Permission.SIGN_ACTS)]
ROUTES = [
    route(_PATH, form, Permission.SIGN_ACTS),
    route(f"{_PATH}/look", look, Permission.SIGN_ACTS, methods=("POST",)),
    route(f"{_PATH}/draft", draft, Permission.SIGN_ACTS, methods=("POST",)),
    route(f"{_PATH}/{{name}}", seen, Permission.SIGN_ACTS),
]
