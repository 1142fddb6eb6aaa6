"""Acts that wait for signatures: read, signed here or elsewhere, carried out, withdrawn.

For the privacy officer and for whoever approves beside them. A signature at the console is made with the
account's own hosted identity, whose passphrase is asked for at this very moment or was in this session: an
identity that somebody else unlocked at this screen, to read beside its owner, signs nothing.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission
from appliance.approvals import Outcome, Standing
from appliance.audit.recipients import Identity, parse_recipient
from appliance.console.frame import Call, call_of, refuse, render, route, see
from appliance.console.pages import acts_words
from appliance.console.pages.acts_words import Told
from appliance.console.render import NavItem
from appliance.errors import ApplianceError, AuditUnavailable, Refused, RequestError, VerificationError
from appliance.hosting import forget

_PATH = "/acts"


async def overview(request: Request) -> Response:
    """What waits, what was decided."""
    return await _overview(request)


async def one(request: Request) -> Response:
    """An act, whole, before it is signed."""
    return await _page(request, await _get(request))


async def file(request: Request) -> Response:
    """The act as `appliance auditor sign` takes it, for another machine."""
    found = await _get(request)
    if found.act is None:
        raise RequestError("this act has no text here", code="act_unreadable")
    return Response(
        found.act.note(),
        media_type="text/plain; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{found.row.id[:8]}.act"'},
    )


async def sign(request: Request) -> Response:
    """Agree to it with one's own identity."""
    call = call_of(request)
    found = await _get(request)
    try:
        if call.text("read") != "yes":
            raise RequestError("say that you have read the act", code="not_read", param="read")
        identity, is_ours = await _own_identity(call)
        try:
            outcome = await call.services.approvals.sign(found.row.id, identity, call.principal, call.caller)
        finally:
            if is_ours:
                forget(identity)
    except AuditUnavailable:
        raise
    except (RequestError, Refused, VerificationError) as problem:
        return await _page(request, found, problem=problem)
    return await _after(request, outcome, "You have signed this act.")


async def upload(request: Request) -> Response:
    """An act from a file: a new one, or signatures of an open one."""
    call = call_of(request)
    try:
        outcome = await call.services.approvals.take(await call.file("act"), call.principal, call.caller)
    except (RequestError, Refused, VerificationError) as problem:
        return await _overview(request, problem=problem)
    return await _after(request, outcome, "The act is here with the signatures of your file.")


async def carry_out(request: Request) -> Response:
    """Once more, what could not be carried out when the last signature came."""
    call = call_of(request)
    found = await _get(request)
    try:
        outcome = await call.services.approvals.carry_out(found.row.id, call.principal, call.caller)
    except (RequestError, VerificationError) as problem:
        return await _page(request, found, problem=problem)
    return await _after(request, outcome, "")


async def withdraw(request: Request) -> Response:
    """Close it without carrying it out."""
    call = call_of(request)
    found = await _get(request)
    try:
        await call.services.approvals.withdraw(
            found.row.id, call.text("reason", limit=2000), call.principal, call.caller
        )
    except RequestError as problem:
        return await _page(request, found, problem=problem)
    call.known.notice = "The act is withdrawn. Nothing was carried out."
    return see(_PATH)


def told(call: Call, standing: Standing) -> Told | None:
    """The act in words; None where its text is not here."""
    if standing.act is None:
        return None
    services = call.services
    names = {key.id: key.name for key in services.directory.all()}
    return acts_words.told_of(
        standing.act.draft,
        before=services.audit.policy,
        holds=services.custody.holds(),
        key_name=lambda key: f"the API key {names[key]} ({key})" if key in names else f"the API key {key}",
    )


def said(problem: ApplianceError | None) -> str:
    """An error as a sentence."""
    if problem is None:
        return ""
    words = problem.message[:1].upper() + problem.message[1:]
    return f"{words}; {problem.hint}." if problem.hint else f"{words}."


async def _get(request: Request) -> Standing:
    approvals = call_of(request).services.approvals
    return await asyncio.to_thread(approvals.get, request.path_params["id"])


async def _after(request: Request, outcome: Outcome, done: str) -> Response:
    if outcome.problem is not None:
        return await _page(
            request,
            outcome.standing,
            problem=outcome.problem,
            before=f"{done} It has all its signatures, but was not carried out. ".lstrip(),
        )
    if outcome.receipt is not None:
        done = f"Enough people agree: the act is carried out, as record {outcome.receipt.record} says."
    call_of(request).known.notice = done
    return see(f"{_PATH}/{outcome.standing.row.id}")


async def _own_identity(call: Call) -> tuple[Identity, bool]:
    """The account's own identity, and whether it is to be forgotten behind the signature."""
    hosted = call.services.hosted
    held = await asyncio.to_thread(hosted.held, call.principal.key_id)
    if held is None:
        raise RequestError(
            "you have no identity on this appliance",
            code="identity_not_found",
            hint="download the act, sign it with your identity on your own machine, and bring it back",
        )
    own = parse_recipient(held.recipient)
    for each in call.known.identities:
        if each.recipient == own:
            return each, False
    words = call.text("passphrase", limit=1000)
    return await hosted.unlock(call.principal.key_id, call.principal.role, words, call.caller), True


async def _overview(request: Request, *, problem: ApplianceError | None = None) -> Response:
    call = call_of(request)
    if problem is not None:
        await refuse(request, problem)
    found = await asyncio.to_thread(call.services.approvals.all)
    return render(
        request,
        "privacy/acts.html",
        status=HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
        active=_PATH,
        problem=said(problem),
        waiting=[(each, told(call, each)) for each in found if each.row.is_open],
        decided=[each.row for each in found if not each.row.is_open],
        label_of=acts_words.label_of,
    )


async def _page(
    request: Request, standing: Standing, *, problem: ApplianceError | None = None, before: str = ""
) -> Response:
    call = call_of(request)
    if problem is not None:
        await refuse(request, problem)
    approvals = call.services.approvals
    held = await asyncio.to_thread(call.services.hosted.held, call.principal.key_id)
    own = parse_recipient(held.recipient) if held is not None else None
    values: dict[str, Any] = {
        "standing": standing,
        "told": told(call, standing),
        "label": acts_words.label_of(standing.row.kind),
        "foreseen": await approvals.foreseen(standing),
        "text": standing.act.draft.text() if standing.act is not None else "",
        "roles": {each.recipient.fingerprint: each.role for each in call.services.audit.policy.members},
        "own": own,
        "is_unlocked": any(each.recipient == own for each in call.known.identities),
        "decides": own is not None and own in (*standing.agreed, *standing.missing),
        "has_signed": own is not None and own in standing.agreed,
        "origin_of": call.services.audit.origin,
        "covers": acts_words.covers,
    }
    return render(
        request,
        "privacy/act.html",
        status=HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
        active=_PATH,
        problem=before + said(problem),
        **values,
    )


MENU = [NavItem("Acts", _PATH, Permission.SIGN_ACTS)]
ROUTES = [
    route(_PATH, overview, Permission.SIGN_ACTS),
    route(f"{_PATH}/upload", upload, Permission.SIGN_ACTS, methods=("POST",)),
    route(f"{_PATH}/{{id}}", one, Permission.SIGN_ACTS),
    route(f"{_PATH}/{{id}}/file", file, Permission.SIGN_ACTS),
    route(f"{_PATH}/{{id}}/sign", sign, Permission.SIGN_ACTS, methods=("POST",)),
    route(f"{_PATH}/{{id}}/carry-out", carry_out, Permission.SIGN_ACTS, methods=("POST",)),
    route(f"{_PATH}/{{id}}/withdraw", withdraw, Permission.SIGN_ACTS, methods=("POST",)),
]
