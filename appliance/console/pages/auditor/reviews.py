"""Reviews: an auditor says that they looked through a span of entries; the page says when one is due."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission
from appliance.console.frame import call_of, render, route, see
from appliance.console.pages.auditor.searching import Search
from appliance.console.pages.forms import not_done
from appliance.console.render import NavItem
from appliance.errors import RequestError


async def reviews(request: Request) -> Response:
    """Those that were recorded, and the form."""
    return await _page(request)


async def record(request: Request) -> Response:
    """On the record: who looked through which entries, with their note and filters sealed."""
    call = call_of(request)
    try:
        receipt = await call.services.reviewing.record(
            call.principal,
            call.caller,
            begin=_number(call.text("begin", limit=20)),
            end=_number(call.text("end", limit=20)),
            note=call.text("note").strip(),
            filters=_filters(request),
        )
    except RequestError as problem:
        return await _page(request, *await not_done(request, problem))
    call.known.notice = f"Your review is on the record as entry {receipt.seq}."
    return see("/reviews")


def _filters(request: Request) -> dict[str, object]:
    """Of the search that was reviewed, where the review began from one."""
    call = call_of(request)
    search = call.known.kept(call.text("search", limit=100))
    return search.asked.filters(search.now_us).given() if isinstance(search, Search) else {}


async def _page(request: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    call = call_of(request)
    name = request.query_params.get("search", "") or call.text("search", limit=100)
    search = call.known.kept(name)
    return render(
        request,
        "auditor/reviews.html",
        status=status,
        active="/reviews",
        problem=problem,
        found=await call.services.reviewing.reviews(),
        tree_size=call.services.audit.tree_size,
        days=call.services.settings.audit.review_days,
        search=search if isinstance(search, Search) else None,
        search_name=name if isinstance(search, Search) else "",
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise RequestError("entries are named by their numbers", code="invalid_span")
    return int(text)


MENU = [NavItem("Reviews", "/reviews", Permission.READ_AUDIT)]
ROUTES = [
    route("/reviews", reviews, Permission.READ_AUDIT),
    route("/reviews", record, Permission.READ_AUDIT, methods=("POST",)),
]
