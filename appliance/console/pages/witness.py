"""The witness's page: the newest checkpoint to carry away, as file or picture, and what was said of it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from appliance import db
from appliance.accounts.roles import Permission
from appliance.audit import proving
from appliance.console.frame import call_of, render, route, see
from appliance.console.pages.forms import not_done
from appliance.console.render import NavItem
from appliance.errors import RequestError, VerificationError
from appliance.services import Services

_ERROR_CORRECTION: Final = "l"  # the largest content, as on the terminal


async def page(request: Request) -> Response:
    """The checkpoint, the witnesses, and the form for an answer."""
    return await _page(request)


async def _page(request: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    services = call_of(request).services
    pinned = await asyncio.to_thread(services.witnessing.pinned)
    sizes = sorted({each.size for each in pinned}) or [0]
    old = _old(request, sizes[-1])
    body, note = await asyncio.to_thread(_request, services, old)
    return render(
        request,
        "operator/witness.html",
        status=status,
        active="/witness",
        pinned=pinned,
        visits=services.witnessing.visits(),
        head=proving.head_of(note),
        note=note,
        sizes=sizes,
        old=old,
        qr=qr_of(body),
        tree_size=services.audit.tree_size,
        problem=problem,
    )


async def download(request: Request) -> Response:
    """The file of `appliance audit witness export`."""
    services = call_of(request).services
    old = _old(request, 0)
    body, note = await asyncio.to_thread(_request, services, old)
    name = f"request-{old}-{proving.head_of(note).size}.txt"
    return Response(
        body,
        media_type="text/plain; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def take(request: Request) -> Response:
    """What a witness said, as file or as text. It counts once it is on the record."""
    call = call_of(request)
    try:
        answer = await call.file("answer") or call.text("text").replace("\r\n", "\n")
        said, receipt = await call.services.witnessing.take(answer, by=call.principal)
    except (RequestError, VerificationError) as problem:
        return await _page(request, *await not_done(request, problem))
    who = ", ".join(sorted({each.witness.name for each in said}))
    call.known.notice = f"{who} cosigned: {receipt.record}"
    return see("/witness")


def qr_of(body: str) -> Markup | None:
    """The request as a QR code in SVG; None where it is too long for one."""
    try:
        code = segno.make_qr(body.encode(), error=_ERROR_CORRECTION)
    except segno.DataOverflowError:
        return None
    drawn = code.svg_inline(scale=4, border=4, svgclass="qr", title="The request as a QR code", omitsize=True)
    return Markup(drawn)  # noqa: S704 - squares, drawn by segno


def _old(request: Request, default: int) -> int:
    told = request.query_params.get("old", "")
    if not told:
        return default
    if not told.isascii() or not told.isdecimal() or len(told) > 15:
        raise RequestError("the size is a number of entries", code="invalid_size", param="old")
    return int(told)


def _request(services: Services, old: int) -> tuple[str, str]:
    with db.reading(db.of(services.home, services.settings)) as connection:
        made = proving.request_from(connection, old)
    return made.encode(), made.note


ROUTES = [
    route("/witness", page, Permission.SEE_WITNESS),
    route("/witness", take, Permission.SEE_WITNESS, methods=("POST",)),
    route("/witness/request", download, Permission.SEE_WITNESS),
]
MENU = [NavItem("Witness", "/witness", Permission.SEE_WITNESS)]
