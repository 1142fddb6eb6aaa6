"""Your identity on this box: stored under a passphrase, unlocked for one session, locked again.

Where the key policy wants two readers, the second one comes to the same screen and unlocks theirs beside it.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission, allows
from appliance.audit.recipients import Identity, parse_identity, parse_recipient
from appliance.console.frame import Call, call_of, render, route, see
from appliance.console.pages.auditor.record import Reading, needs_two
from appliance.console.pages.auditor.texts import TextSearch
from appliance.console.pages.forms import not_done
from appliance.console.render import NavItem
from appliance.core import Role
from appliance.errors import Refused, RequestError, VerificationError
from appliance.hosting import forget


async def identity(request: Request) -> Response:
    """What is stored, and what is unlocked."""
    return await _page(request)


async def store(request: Request) -> Response:
    """Keep an identity here, under a passphrase of its own."""
    call = call_of(request)
    text = await call.file("file") or call.text("pasted", limit=20_000)
    words = call.text("passphrase", limit=1000)
    try:
        if words != call.text("again", limit=1000):
            raise RequestError("the two passphrases differ", code="invalid_passphrase")
        given = parse_identity(text)
        try:
            await call.services.hosted.store(
                call.principal.key_id, call.principal.role, given, words, call.caller
            )
        finally:
            forget(given)
    except (RequestError, Refused, VerificationError) as problem:
        return await _page(request, *await not_done(request, problem))
    call.known.notice = (
        "Your identity is stored. It opens with its passphrase only, and nobody here knows it."
    )
    return see("/identity")


async def unlock(request: Request) -> Response:
    """Open the own identity for this session."""
    call = call_of(request)
    try:
        found = await call.services.hosted.unlock(
            call.principal.key_id, call.principal.role, call.text("passphrase", limit=1000), call.caller
        )
    except (RequestError, Refused) as problem:
        return await _page(request, *await not_done(request, problem))
    _add(call, found)
    call.known.notice = "Your identity is unlocked until you lock it, log out, or fall silent."
    return see("/identity")


async def second(request: Request) -> Response:
    """Another auditor's identity beside it, by their name and their passphrase, at this screen."""
    call = call_of(request)
    name = call.text("name", limit=200).strip()
    other = next(
        (
            each
            for each in call.services.people.list()
            if each.name == name
            and each.role is Role.AUDITOR
            and call.services.people.active(each.id) is not None
        ),
        None,
    )
    try:
        if other is None or other.id == call.principal.key_id:
            raise Refused("no other auditor of this name has an identity here", code="not_a_member")
        found = await call.services.hosted.unlock(
            other.id, other.role, call.text("passphrase", limit=1000), call.caller
        )
    except (RequestError, Refused) as problem:
        return await _page(request, *await not_done(request, problem))
    _add(call, found)
    call.known.notice = "The second reader's identity is unlocked for this session."
    return see("/identity")


async def lock(request: Request) -> Response:
    """Forget the identities, and what was read with them."""
    call = call_of(request)
    call.known.lock()
    call.known.drop(Reading)
    call.known.drop(TextSearch)
    call.known.notice = "Locked. What was read in this session is forgotten."
    return see("/identity")


async def change(request: Request) -> Response:
    """Another passphrase for the stored identity."""
    call = call_of(request)
    new = call.text("new", limit=1000)
    try:
        if new != call.text("again", limit=1000):
            raise RequestError("the two new passphrases differ", code="invalid_passphrase")
        await call.services.hosted.change_passphrase(
            call.principal.key_id,
            call.principal.role,
            call.text("current", limit=1000),
            new,
            call.caller,
        )
    except (RequestError, Refused) as problem:
        return await _page(request, *await not_done(request, problem))
    call.known.notice = "Your identity has another passphrase."
    return see("/identity")


async def remove(request: Request) -> Response:
    """Keep the identity here no more."""
    call = call_of(request)
    try:
        await call.services.hosted.remove(call.principal.key_id, call.caller)
    except RequestError as problem:
        return await _page(request, *await not_done(request, problem))
    call.known.lock()
    call.known.drop(Reading)
    call.known.drop(TextSearch)
    call.known.notice = "Your identity is removed from this box. Your own file still reads the record."
    return see("/identity")


def _add(call: Call, found: Identity) -> None:
    """Each once."""
    held = {each.recipient.fingerprint for each in call.known.identities}
    if found.recipient.fingerprint in held:
        forget(found)
    else:
        call.known.identities.append(found)


async def _page(request: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    call = call_of(request)
    held = call.services.hosted.held(call.principal.key_id)
    policy = call.services.audit.policy
    return render(
        request,
        "auditor/identity.html",
        status=status,
        active="/identity",
        problem=problem,
        held=held,
        stored=parse_recipient(held.recipient) if held is not None else None,
        unlocked=[each.recipient for each in call.known.identities],
        needs_two=needs_two(call) and allows(call.principal.role, Permission.READ_AUDIT),
        members=policy.members,
        fingerprint=policy.fingerprint,
    )


MENU = [NavItem("Identity", "/identity", Permission.SIGN_ACTS)]
ROUTES = [
    route("/identity", identity, Permission.SIGN_ACTS),
    route("/identity/store", store, Permission.SIGN_ACTS, methods=("POST",)),
    route("/identity/unlock", unlock, Permission.SIGN_ACTS, methods=("POST",)),
    route("/identity/second", second, Permission.READ_AUDIT, methods=("POST",)),
    route("/identity/lock", lock, Permission.SIGN_ACTS, methods=("POST",)),
    route("/identity/passphrase", change, Permission.SIGN_ACTS, methods=("POST",)),
    route("/identity/remove", remove, Permission.SIGN_ACTS, methods=("POST",)),
]
