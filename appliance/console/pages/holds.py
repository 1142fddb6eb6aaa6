"""Legal holds: what may be neither erased nor removed, and the act that ends one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission
from appliance.approvals import by
from appliance.audit import ceremonies, holds
from appliance.console.frame import call_of, refuse, render, route, see
from appliance.console.pages import acts_words
from appliance.console.pages.acts import said
from appliance.console.render import NavItem
from appliance.errors import RequestError

_PATH = "/holds"
_FIELDS = ("user", "key", "since", "until", "reason")


async def overview(request: Request) -> Response:
    """Every hold, and the form for another."""
    return await _page(request, dict.fromkeys(_FIELDS, ""))


async def place(request: Request) -> Response:
    """Place a hold; in force with its record."""
    call = call_of(request)
    given = {name: call.text(name).strip() for name in _FIELDS}
    try:
        placed, receipt = await call.services.custody.hold(
            api_key=given["key"],
            user=given["user"],
            since_us=_day(given["since"], "since") or 0,
            until_us=_day(given["until"], "until", days=1),
            reason=given["reason"],
            by=by(call.principal, call.caller),
        )
    except RequestError as problem:
        return await _page(request, given, problem=problem)
    call.known.notice = f"Hold {placed.id} is in force, as record {receipt.record} says."
    return see(_PATH)


async def lift(request: Request) -> Response:
    """Draft the act that ends a hold."""
    call = call_of(request)
    services = call.services
    try:
        draft = ceremonies.draft_lifting(
            services.audit.policy,
            services.audit.origin,
            request.path_params["id"],
            call.text("reason").strip(),
        )
        made = await services.approvals.draft(draft, call.principal, call.caller)
    except RequestError as problem:
        return await _page(request, dict.fromkeys(_FIELDS, ""), problem=problem)
    call.known.notice = "The end of this hold is drafted. Two members of the key policy sign it."
    return see(f"/acts/{made.row.id}")


def _day(text: str, field: str, *, days: int = 0) -> int | None:
    """The begin of a day, so many days later, in microseconds, UTC; None for an empty field."""
    if not text:
        return None
    try:
        at = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=days)
    except (ValueError, OverflowError) as error:
        raise RequestError("a day is written as 2026-11-30", code="invalid_hold", param=field) from error
    if at.year < 1971:
        raise RequestError("no record is older than 1971", code="invalid_hold", param=field)
    return int(at.timestamp()) * 1_000_000


async def _page(request: Request, given: dict[str, str], *, problem: RequestError | None = None) -> Response:
    call = call_of(request)
    if problem is not None:
        await refuse(request, problem)
    found = await asyncio.to_thread(call.services.custody.holds)
    keys = call.services.directory.all()
    blind = await asyncio.to_thread(holds.key_of, call.services.home)
    named = {holds.blinded(blind, "key", key.id): key for key in keys}
    return render(
        request,
        "privacy/holds.html",
        status=HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
        active=_PATH,
        problem=said(problem),
        given=given,
        keys=keys,
        active_holds=[each for each in reversed(found) if each.is_active],
        past_holds=[each for each in reversed(found) if not each.is_active],
        key_of=lambda hold: named.get(hold.key_bi) if hold.key_bi is not None else None,
        covers=acts_words.covers,
        max_words=ceremonies.MAX_WORDS,
    )


MENU = [NavItem("Holds", _PATH, Permission.PLACE_HOLDS)]
ROUTES = [
    route(_PATH, overview, Permission.PLACE_HOLDS),
    route(f"{_PATH}/place", place, Permission.PLACE_HOLDS, methods=("POST",)),
    route(f"{_PATH}/{{id}}/lift", lift, Permission.SIGN_ACTS, methods=("POST",)),
]
