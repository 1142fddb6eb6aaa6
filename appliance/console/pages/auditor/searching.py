"""Search: the form, a page of what it finds with a timeline above it, and the pages before and behind.

A search is kept in the session under a random name, with its first result: what it looks for stands in no
address, and looking at a result again is no new reading of the record.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission
from appliance.api.audit import as_rows
from appliance.audit.kinds import Kind
from appliance.audit.search import Page
from appliance.audit.timeline import Timeline
from appliance.console.frame import Call, call_of, render, route, see
from appliance.console.pages.auditor import drawing, purpose, words
from appliance.console.pages.auditor.asking import TIMES, Asked
from appliance.console.pages.auditor.words import GROUPS, KINDS, OUTCOMES
from appliance.console.pages.forms import not_done
from appliance.console.render import NavItem
from appliance.core import Outcome
from appliance.errors import RequestError
from appliance.why import Why

LIMIT: Final = 50
BUCKETS: Final = 60


@dataclass(slots=True)
class Search:
    """One page of one search, in its session. `page` and `timeline` once it was looked at."""

    asked: Asked
    why: Why
    now_us: int  # what "the last hour" counts from: the same on all pages
    cursor: str | None = None
    before: str | None = None  # the name under which the page before this one is kept
    number: int = 1
    page: Page | None = None
    timeline: Timeline | None = None
    older: str | None = None


def kept(call: Call, name: str) -> Search:
    """A search of this session. RequestError where it is not kept any more."""
    found = call.known.kept(name)
    if not isinstance(found, Search):
        raise RequestError(
            "this search is not kept any more",
            code="not_found",
            hint="a session keeps its newest ones only; search again",
        )
    return found


async def form(request: Request) -> Response:
    """An empty form, and the saved searches."""
    return await _form(request, Asked())


async def saved(request: Request) -> Response:
    """The form, filled in by a saved search."""
    call = call_of(request)
    found = await call.services.searches.find(call.principal, request.path_params["id"])
    return await _form(request, Asked.from_saved(found.filters), name=found.name)


async def begin(request: Request) -> Response:
    """From the form to its first page."""
    call = call_of(request)
    asked = Asked()
    try:
        asked = Asked.of(call.form)
        why = purpose.said(call)
        now_us = call.services.clock.now_us() // 1000 * 1000  # as fine as the form
        asked.filters(now_us)
    except RequestError as problem:
        words_said, status = await not_done(request, problem)
        return await _form(request, asked, problem=words_said, status=status)
    return see(f"/search/{call.known.keep(Search(asked, why, now_us))}")


async def result(request: Request) -> Response:
    """One page of the result. Put on the record when it is looked at for the first time."""
    call = call_of(request)
    name = request.path_params["name"]
    search = kept(call, name)
    filters = search.asked.filters(search.now_us)
    services = call.services
    if search.page is None:
        found = await services.auditing.search(
            call.principal,
            call.caller,
            filters,
            search.why,
            cursor=search.cursor,
            limit=LIMIT,
            oldest_first=search.asked.oldest_first,
            identities=call.known.identities,
        )
        if search.timeline is None:
            search.timeline = await services.auditing.timeline(
                call.principal,
                call.caller,
                filters,
                search.why,
                buckets=BUCKETS,
                identities=call.known.identities,
            )
        search.page = found
    return render(
        request,
        "auditor/results.html",
        active="/search",
        name=name,
        search=search,
        page=search.page,
        chart=drawing.chart(search.timeline) if search.timeline is not None else None,
        drawing=drawing,
        rows=[(each, words.mark_of(each), words.told(each)) for each in search.page.records],
        kinds=KINDS,
        has_names=bool(filters.names),
        **_choices(search.asked, search.why),
    )


async def older(request: Request) -> Response:
    """On to what the page left."""
    call = call_of(request)
    name = request.path_params["name"]
    search = kept(call, name)
    if search.page is None or search.page.next_cursor is None:
        return see(f"/search/{name}")
    if search.older is None or call.known.kept(search.older) is None:
        following = dataclasses.replace(
            search,
            cursor=search.page.next_cursor,
            before=name,
            number=search.number + 1,
            page=None,
            older=None,
        )
        search.older = call.known.keep(following)
    return see(f"/search/{search.older}")


async def narrow(request: Request) -> Response:
    """The same search within one bar of the timeline. Only the session's own memory changes."""
    call = call_of(request)
    search = kept(call, request.path_params["name"])
    number = request.path_params["number"]
    if search.timeline is None or number >= len(search.timeline.counts):
        raise RequestError("the timeline has no such bar", code="not_found")
    begin_us = search.timeline.begin_us + number * search.timeline.bucket_us
    end_us = min(begin_us + search.timeline.bucket_us, search.timeline.end_us)
    narrowed = Search(search.asked.narrowed(begin_us, end_us), search.why, search.now_us)
    return see(f"/search/{call.known.keep(narrowed)}")


async def export(request: Request) -> Response:
    """The headers of everything that is found, as they are read."""
    call = call_of(request)
    search = kept(call, request.path_params["name"])
    form = "csv" if call.text("form", limit=10) == "csv" else "jsonl"
    pages = call.services.auditing.pages(
        call.principal,
        call.caller,
        search.asked.filters(search.now_us),
        search.why,
        oldest_first=search.asked.oldest_first,
    )
    return await as_rows(form, pages)


async def save(request: Request) -> Response:
    """Keep what is looked for, without the names of people."""
    call = call_of(request)
    name = request.path_params["name"]
    asked = kept(call, name).asked
    made = await call.services.searches.save(call.principal, call.text("label", limit=200), asked.to_save())
    call.known.notice = f"Saved as “{made.name}”."
    if asked.has_names:
        call.known.notice += " Person, conversation and address are not saved: they are asked for each time."
    return see(f"/search/{name}")


async def remove(request: Request) -> Response:
    """Keep a saved search no more."""
    call = call_of(request)
    gone = await call.services.searches.remove(call.principal, call.text("id", limit=20))
    call.known.notice = f"“{gone.name}” is removed."
    return see("/search")


async def _form(
    request: Request,
    asked: Asked,
    *,
    name: str = "",
    problem: str = "",
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    call = call_of(request)
    return render(
        request,
        "auditor/search.html",
        status=status,
        active="/search",
        problem=problem,
        saved=await call.services.searches.of(call.principal),
        saved_name=name,
        reviews=await call.services.reviewing.reviews(),
        tree_size=call.services.audit.tree_size,
        **_choices(asked, call.known.why),
    )


def _choices(asked: Asked, why: Why | None) -> dict[str, Any]:
    """What the form offers."""
    by_subject: dict[str, list[tuple[str, str]]] = {}
    for kind in Kind:
        by_subject.setdefault(kind.value.partition(":")[0], []).append((kind.value, KINDS[kind]))
    return {
        "asked": asked,
        "why": why,
        "times": {name: label for name, (label, _) in TIMES.items()},
        "groups": {name: label for name, (label, _) in GROUPS.items()},
        "outcomes": {str(each): OUTCOMES[each] for each in Outcome},
        "subjects": by_subject,
    }


MENU = [NavItem("Search", "/search", Permission.READ_AUDIT)]
ROUTES = [
    route("/search", form, Permission.READ_AUDIT),
    route("/search", begin, Permission.READ_AUDIT, methods=("POST",)),
    route("/search/saved/remove", remove, Permission.READ_AUDIT, methods=("POST",)),
    route("/search/saved/{id}", saved, Permission.READ_AUDIT),
    route("/search/{name}", result, Permission.READ_AUDIT),
    route("/search/{name}/older", older, Permission.READ_AUDIT, methods=("POST",)),
    route("/search/{name}/at/{number:int}", narrow, Permission.READ_AUDIT),
    route("/search/{name}/export", export, Permission.READ_AUDIT, methods=("POST",)),
    route("/search/{name}/save", save, Permission.READ_AUDIT, methods=("POST",)),
]
