"""One exchange: its headers and their place in the tree, and its contents for whoever reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission
from appliance.audit.policy import Reading as PolicyReading
from appliance.auditing import Exchange
from appliance.console.frame import Call, call_of, render, route, see
from appliance.console.pages.auditor import purpose
from appliance.console.pages.auditor.exchange import Shown, shown
from appliance.errors import RequestError
from appliance.why import Why


@dataclass(frozen=True, slots=True)
class Reading:
    """What was opened for this session. Dropped when the identity is locked."""

    seq: int
    why: Why
    found: Exchange = field(repr=False)


async def record(request: Request) -> Response:
    """Headers only: no key is needed. On the record before it is shown."""
    call = call_of(request)
    if call.known.why is None:
        return purpose.to_ask(request)
    seq = request.path_params["seq"]
    found = await call.services.auditing.headers(call.principal, call.caller, str(seq), call.known.why)
    return _page(request, shown(seq, found), call.known.why)


async def read(request: Request) -> Response:
    """Open the contents with the identities of this session. On the record before they are shown."""
    call = call_of(request)
    seq = request.path_params["seq"]
    why = purpose.said(call)
    if not call.known.identities:
        call.known.notice = "Unlock your identity first; then read."
        return see("/identity")
    found = await call.services.auditing.read(
        call.principal, call.caller, str(seq), why, tuple(call.known.identities)
    )
    return see(f"/reading/{call.known.keep(Reading(seq, why, found))}")


async def reading(request: Request) -> Response:
    """What was read in this session, while its identities are unlocked."""
    call = call_of(request)
    found = call.known.kept(request.path_params["name"])
    if not isinstance(found, Reading):
        raise RequestError(
            "this reading is not kept any more",
            code="not_found",
            hint="what was read is forgotten when the identity is locked; read it again",
        )
    return _page(request, shown(found.seq, found.found), found.why)


async def proof(request: Request) -> Response:
    """The proof of one entry, as a file (C2SP tlog-proof)."""
    call = call_of(request)
    if call.known.why is None:
        return purpose.to_ask(request)
    seq = request.path_params["seq"]
    found = await call.services.auditing.entry(call.principal, call.caller, seq, call.known.why)
    if found.proof is None:
        raise RequestError("no signed tree holds this entry yet", code="not_found")
    return Response(
        found.proof.encode(),
        media_type="text/plain; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="record-{seq}.tlog-proof"'},
    )


def needs_two(call: Call) -> bool:
    """Whether the key policy in force wants two readers."""
    return call.services.audit.policy.reading is PolicyReading.TWO


def _page(request: Request, page: Shown, why: Why) -> Response:
    call = call_of(request)
    return render(
        request,
        "auditor/record.html",
        active="/search",
        page=page,
        why=why,
        num_unlocked=len(call.known.identities),
        num_needed=2 if needs_two(call) else 1,
    )


ROUTES = [
    route("/record/{seq:int}", record, Permission.READ_AUDIT),
    route("/record/{seq:int}/read", read, Permission.READ_AUDIT, methods=("POST",)),
    route("/record/{seq:int}/proof", proof, Permission.READ_AUDIT, methods=("POST",)),
    route("/reading/{name}", reading, Permission.READ_AUDIT),
]
