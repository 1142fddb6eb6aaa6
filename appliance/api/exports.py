"""`POST /v1/audit/export`: evidence as one zip. Chosen records leave sealed; a range with every header.

An auditor's program opens a sealed case with its own identity (`appliance audit open`), so no key that
reads anything comes over the wire, and no content leaves in the clear.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, StringConstraints

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.body import Body, parse, schema_of
from appliance.api.border import visit_of
from appliance.errors import RequestError
from appliance.exporting import MAX_RECORDS
from appliance.services import services_of
from appliance.why import MAX_CASE, MAX_PURPOSE, Why

MEDIA_TYPE = "application/zip"
_Seq = Annotated[int, Field(ge=0, lt=1 << 53)]
_RequestId = Annotated[str, StringConstraints(min_length=1, max_length=64)]

router = APIRouter()


class ExportRequest(Body):
    """Which records, or which range [begin, end), and what for."""

    seqs: Annotated[list[_Seq], Field(default_factory=list, max_length=MAX_RECORDS)]
    request_ids: Annotated[list[_RequestId], Field(default_factory=list, max_length=MAX_RECORDS)]
    range: Annotated[list[_Seq], Field(min_length=2, max_length=2)] | None = None
    purpose: Annotated[str, StringConstraints(max_length=MAX_PURPOSE)]
    case: Annotated[str, StringConstraints(max_length=MAX_CASE)] = ""


@router.post(
    "/v1/audit/export",
    dependencies=[require(Permission.READ_AUDIT)],
    response_class=Response,
    responses={
        HTTPStatus.OK: {"content": {MEDIA_TYPE: {}}, "description": "A sealed case, or a range"},
        HTTPStatus.NOT_FOUND: {"description": "No such record"},
    },
    openapi_extra=schema_of(ExportRequest),
)
async def export(request: Request) -> Response:
    """The export is on the record, with its purpose and case, before its first byte leaves."""
    services, visit = services_of(request.app), visit_of(request.scope)
    asked = await parse(request, ExportRequest)
    why = Why(asked.purpose, asked.case)
    who, caller = visit.known_principal, visit.caller
    if (asked.range is not None) == bool(asked.seqs or asked.request_ids):
        raise RequestError("name records, or a range", code="invalid_export")
    if asked.range is not None:
        begin, end = asked.range
        ready = await services.exporting.export_range(who, caller, why, begin=begin, end=end)
        return StreamingResponse(
            ready.zipped(), media_type=MEDIA_TYPE, headers=_named(f"range-{begin}-{end}.zip")
        )
    made = await services.exporting.export(who, caller, why, seqs=asked.seqs, request_ids=asked.request_ids)
    return Response(made.zip(), media_type=MEDIA_TYPE, headers=_named(f"case-{made.seq}.zip"))


def _named(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
