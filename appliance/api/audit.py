"""`/v1/audit`: the record for auditors' programs. Contents are read elsewhere: this API has headers only.

Searches and readings go through the one door (`appliance.auditing`): on the record before they are
answered, with purpose and case, within the reader's volume.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from appliance.accounts.roles import Permission, allows
from appliance.api.access import require
from appliance.api.audit_schemas import (
    EventsBody,
    TimelineBody,
    page_body,
    proven_body,
    timeline_body,
)
from appliance.api.body import parse, schema_of
from appliance.api.border import Visit, visit_of
from appliance.api.streaming import RowStream
from appliance.audit import rows
from appliance.audit.search import Page
from appliance.errors import RequestError
from appliance.services import Services, services_of
from appliance.why import Why

_MAX_DIGITS = 16  # of a sequence number: below 2^53
_ANSWERS: dict[int | str, dict[str, Any]] = {
    HTTPStatus.BAD_REQUEST: {"description": "A filter, cursor or purpose that is not one"},
    HTTPStatus.TOO_MANY_REQUESTS: {"description": "The reader has had the volume of an hour"},
}

router = APIRouter(prefix="/v1/audit")


class LastVerification(BaseModel):
    """How the record was found when it was last verified."""

    green: bool
    tree_size: int
    ts: int


class LastWitness(BaseModel):
    """The newest cosigned tree; times in POSIX seconds, 0 for never."""

    tree_size: int
    cosigned_at: int
    is_stale: bool


class Reading(BaseModel):
    """What the caller may still ask for within this hour."""

    searches_left: int
    reads_left: int


class AuditStatus(BaseModel):
    """`reviewed_at`: when an auditor recorded a review last, in microseconds; 0 for never."""

    state: str
    origin: str
    tree_size: int
    verified: LastVerification | None
    witness: LastWitness
    reading: Reading | None
    reviewed_at: int
    review_due: bool


@router.post(
    "/events",
    dependencies=[require(Permission.SEARCH_AUDIT)],
    openapi_extra=schema_of(EventsBody),
    responses=_ANSWERS,
)
async def events(request: Request) -> Response:
    """A page of entries, or all that the filters find as JSON lines or CSV."""
    asked = await parse(request, EventsBody)
    services, visit = services_of(request.app), visit_of(request.scope)
    if asked.format != "json":
        asked.require_whole()
        pages = services.auditing.pages(
            visit.known_principal,
            visit.caller,
            asked.filters(),
            asked.why(),
            oldest_first=asked.order == "oldest",
        )
        return await as_rows(asked.format, pages)
    page = await services.auditing.search(
        visit.known_principal,
        visit.caller,
        asked.filters(),
        asked.why(),
        cursor=asked.cursor,
        limit=asked.limit or 50,
        oldest_first=asked.order == "oldest",
    )
    return _json(page_body(page))


@router.post(
    "/events/timeline",
    dependencies=[require(Permission.SEARCH_AUDIT)],
    openapi_extra=schema_of(TimelineBody),
    responses=_ANSWERS,
)
async def timeline(request: Request) -> Response:
    """How many exchanges ended how, and what else happened, over time."""
    asked = await parse(request, TimelineBody)
    services, visit = services_of(request.app), visit_of(request.scope)
    found = await services.auditing.timeline(
        visit.known_principal, visit.caller, asked.filters(), asked.why(), buckets=asked.buckets
    )
    return _json(timeline_body(found))


@router.get("/events/{seq}", dependencies=[require(Permission.READ_AUDIT)], responses=_ANSWERS)
async def event(request: Request, seq: str) -> Response:
    """One entry: header, leaf, proof. Purpose and case stand in `x-audit-purpose` and `x-audit-case`."""
    services, visit = services_of(request.app), visit_of(request.scope)
    why = Why(_said(request, "x-audit-purpose"), _said(request, "x-audit-case"))
    if not (seq.isascii() and seq.isdecimal() and len(seq) <= _MAX_DIGITS):
        raise RequestError("there is no such entry on the record", code="not_found")
    found = await services.auditing.entry(visit.known_principal, visit.caller, int(seq), why)
    return _json(proven_body(found))


@router.get(
    "/checkpoint",
    dependencies=[require(Permission.SEE_AUDIT_STATUS)],
    response_class=Response,
    responses={HTTPStatus.OK: {"content": {"text/plain": {}}, "description": "C2SP tlog-checkpoint"}},
)
async def checkpoint(request: Request) -> Response:
    """The newest signed checkpoint, as witnesses and monitors read it."""
    note = await services_of(request.app).auditing.checkpoint()
    return Response(note, media_type="text/plain; charset=utf-8")


@router.get("/status", dependencies=[require(Permission.SEE_AUDIT_STATUS)])
async def status(request: Request) -> AuditStatus:
    """How the record stands: no content, no names."""
    services, visit = services_of(request.app), visit_of(request.scope)
    state = await services.audit.checked()
    last = services.administration.verifications.last
    visits = services.witnessing.visits()
    review = await services.reviewing.reviews()
    return AuditStatus(
        state="ready" if state.is_ready else "latched",
        origin=services.audit.origin,
        tree_size=services.audit.tree_size,
        verified=LastVerification(green=last.is_green, tree_size=last.size, ts=last.ts) if last else None,
        witness=LastWitness(tree_size=visits.size, cosigned_at=visits.time_s, is_stale=visits.is_stale),
        reading=await _reading(services, visit),
        reviewed_at=review.last_us or 0,
        review_due=review.is_due,
    )


async def _reading(services: Services, visit: Visit) -> Reading | None:
    if not allows(visit.known_principal.role, Permission.SEARCH_AUDIT):
        return None
    found = await services.auditing.volume(visit.known_principal.key_id)
    return Reading(searches_left=found.searches_left, reads_left=found.reads_left)


async def as_rows(form: str, pages: AsyncGenerator[Page]) -> Response:
    """The first page is found before anything is sent: until then a refusal is a plain answer."""
    first = await anext(pages)
    if form == "csv":
        return RowStream(_csv(first, pages), pages, "text/csv; charset=utf-8; header=present", "events.csv")
    return RowStream(_lines(first, pages), pages, "application/x-ndjson", "events.jsonl")


async def _lines(first: Page, pages: AsyncIterator[Page]) -> AsyncIterator[bytes]:
    yield b"".join(rows.json_line(rows.plain(each)) for each in first.records)
    async for page in pages:
        yield b"".join(rows.json_line(rows.plain(each)) for each in page.records)


async def _csv(first: Page, pages: AsyncIterator[Page]) -> AsyncIterator[bytes]:
    yield rows.csv_lines([rows.COLUMNS, *(rows.csv_row(each) for each in first.records)])
    async for page in pages:
        yield rows.csv_lines([rows.csv_row(each) for each in page.records])


def _said(request: Request, header: str) -> str:
    """A header's value; clients send UTF-8, which the server reads as Latin-1."""
    value = request.headers.get(header, "")
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _json(body: dict[str, Any]) -> Response:
    return Response(rows.json_line(body), media_type="application/json")
