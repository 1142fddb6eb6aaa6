"""The log itself: its newest signed tree, what witnesses said, who reads it, and whether it is whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from appliance import db
from appliance.accounts.roles import Permission, allows
from appliance.audit import cosignature, files, merkle, proving
from appliance.audit.cosignature import Cosignature
from appliance.audit.witness import Request as WitnessRequest
from appliance.console.frame import call_of, render, route, see
from appliance.console.pages.auditor import drawing
from appliance.console.render import NavItem
from appliance.services import Services
from appliance.verification import Verifications


@dataclass(frozen=True, slots=True)
class Tree:
    """The newest checkpoint, as everybody may take it away."""

    note: str
    size: int
    root: str
    cosigned_size: int
    cosignatures: list[Cosignature]
    request: str  # what the next witness is asked


async def log(request: Request) -> Response:
    """Everything about the log but what is in it."""
    call = call_of(request)
    services = call.services
    tree = await asyncio.to_thread(_tree, services)
    verifications = services.administration.verifications
    return render(
        request,
        "auditor/log.html",
        active="/log",
        tree=tree,
        qr=drawing.qr(tree.request),
        vkey=files.read_verifier(services.home).text(),
        visits=services.witnessing.visits(),
        policy=services.audit.policy,
        verifications=verifications,
        percent=_percent(verifications),
        may_verify=allows(call.principal.role, Permission.READ_AUDIT),
        is_ready=services.audit.is_ready,
    )


async def verify(request: Request) -> Response:
    """Read the record a second time, beside everything else; the result is on the record."""
    call = call_of(request)
    begun = call.services.administration.verifications.ask(
        call.principal, is_full=call.text("what", limit=10) != "new"
    )
    if not begun:
        call.known.notice = "A verification is under way already, or the log is closed."
    return see("/log")


async def progress(request: Request) -> Response:
    """How far the verification has come, for the page's script."""
    verifications = call_of(request).services.administration.verifications
    reading = verifications.reading
    return JSONResponse(
        {
            "running": verifications.is_waiting,
            "percent": _percent(verifications),
            "done": reading.done if reading else 0,
            "total": reading.total if reading else 0,
        }
    )


async def checkpoint(request: Request) -> Response:
    """The newest checkpoint, as a file."""
    tree = await asyncio.to_thread(_tree, call_of(request).services)
    return _file(tree.note, "checkpoint.txt")


async def witness_request(request: Request) -> Response:
    """What a witness needs to cosign, as a file (C2SP tlog-witness, add-checkpoint)."""
    tree = await asyncio.to_thread(_tree, call_of(request).services)
    return _file(tree.request, "witness-request.txt")


def _file(text: str, name: str) -> Response:
    return Response(
        text,
        media_type="text/plain; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


def _tree(services: Services) -> Tree:
    with db.reading(db.of(services.home, services.settings)) as connection:
        note = proving.newest(connection)
        head = proving.head_of(note)
        cosigned = proving.cosigned(connection)
        known = proving.witnesses(connection).values()
        names = {each.name for each in known}
        old = proving.last_size_of(connection, next(iter(names))) if len(names) == 1 else 0
        hashes = merkle.consistency_proof(old, head.size, proving.reader(connection))
        return Tree(
            note=note,
            size=head.size,
            root=head.root.hex(),
            cosigned_size=proving.head_of(cosigned).size if cosigned else 0,
            cosignatures=cosignature.verified(cosigned, known) if cosigned else [],
            request=WitnessRequest(old=old, hashes=tuple(hashes), note=note).encode(),
        )


def _percent(verifications: Verifications) -> int:
    reading = verifications.reading
    return 100 * reading.done // reading.total if reading is not None and reading.total else 0


MENU = [NavItem("Log", "/log", Permission.READ_AUDIT)]
ROUTES = [
    route("/log", log, Permission.READ_AUDIT),
    route("/log/progress", progress, Permission.READ_AUDIT),
    route("/log/checkpoint", checkpoint, Permission.READ_AUDIT),
    route("/log/witness-request", witness_request, Permission.READ_AUDIT),
    route("/log/verify", verify, Permission.READ_AUDIT, methods=("POST",)),
]
