"""Why somebody reads: asked once in a session, kept for it, and on the record with each reading."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission
from appliance.console.frame import Call, call_of, render, route, see
from appliance.console.pages.forms import not_done
from appliance.errors import RequestError
from appliance.why import Why

_NEXT: Final = re.compile(r"/(record|evidence)/\d{1,16}", re.ASCII)


def said(call: Call) -> Why:
    """Purpose and case from the form, for this reading and the next ones. RequestError without one."""
    call.known.why = Why(call.text("purpose", limit=1000).strip(), call.text("case", limit=1000).strip())
    return call.known.why


def to_ask(request: Request) -> Response:
    """To the form, and back here from it."""
    return see(f"/purpose?next={quote(request.url.path)}")


async def ask(request: Request) -> Response:
    """The form."""
    return _form(request, request.query_params.get("next", ""))


async def say(request: Request) -> Response:
    """On to the page that was asked for."""
    call = call_of(request)
    following = call.text("next", limit=100)
    try:
        said(call)
    except RequestError as problem:
        return _form(request, following, *await not_done(request, problem))
    return see(_known(following))


def _form(
    request: Request, following: str, problem: str = "", status: HTTPStatus = HTTPStatus.OK
) -> Response:
    return render(
        request,
        "auditor/purpose.html",
        status=status,
        active="/search",
        following=_known(following),
        why=call_of(request).known.why,
        problem=problem,
    )


def _known(path: str) -> str:
    """A page of ours, whatever the address says."""
    return path if _NEXT.fullmatch(path) else "/search"


ROUTES = [
    route("/purpose", ask, Permission.READ_AUDIT),
    route("/purpose", say, Permission.READ_AUDIT, methods=("POST",)),
]
