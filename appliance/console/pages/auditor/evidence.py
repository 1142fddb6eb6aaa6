"""Evidence: records leave as a file that stands without this appliance, each time on the record first."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from appliance.accounts.roles import Permission
from appliance.audit.redaction import Part, Redaction
from appliance.console.frame import Call, call_of, render, route
from appliance.console.pages.auditor import purpose
from appliance.console.pages.auditor.record import needs_two
from appliance.console.pages.forms import not_done
from appliance.console.render import NavItem
from appliance.errors import RequestError
from appliance.exporting import Form

_ZIP: Final = "application/zip"
_MAX_CHOSEN: Final = 10_000  # characters
FORMS: Final = {
    Form.SEALED: "Sealed case: an auditor opens it on another machine, with their identity file",
    Form.OPENED: "Opened evidence: contents, and the key of each record, for a court",
    Form.REDACTED: "Redacted evidence: contents without what is named below, for a third party",
    Form.PROOFS: "Proofs alone: what stood in the log, and opens for nobody",
}
PARTS: Final = {
    Part.QUESTION: "what was asked",
    Part.ANSWER: "what was answered",
    Part.WHO: "who asked",
    Part.ADDRESS: "from where",
}


async def empty(request: Request) -> Response:
    """The page, for records that are named by hand, or a range."""
    return _page(request)


async def of_record(request: Request) -> Response:
    """The page, for one exchange."""
    call = call_of(request)
    if call.known.why is None:
        return purpose.to_ask(request)
    seq = request.path_params["seq"]
    found = await call.services.auditing.headers(call.principal, call.caller, str(seq), call.known.why)
    head = found.records[0].record
    return _page(request, chosen=head.request_id or str(head.seq))


async def export(request: Request) -> Response:
    """The file itself."""
    call = call_of(request)
    chosen = call.text("chosen", limit=_MAX_CHOSEN)
    try:
        why = purpose.said(call)
        form = _form(call.text("form", limit=20))
        seqs, request_ids = _chosen(chosen)
        made = await call.services.exporting.export(
            call.principal,
            call.caller,
            why,
            seqs=seqs,
            request_ids=request_ids,
            identities=tuple(call.known.identities) if form in {Form.OPENED, Form.REDACTED} else (),
            redact=_redaction(call) if form is Form.REDACTED else None,
            form=form,
        )
    except RequestError as problem:
        return _page(request, chosen, *await not_done(request, problem))
    return Response(made.zip(), media_type=_ZIP, headers=_named(f"{form}-{made.seq}.zip"))


async def export_range(request: Request) -> Response:
    """Every header between two places, as it is read."""
    call = call_of(request)
    try:
        why = purpose.said(call)
        begin, end = (_number(call.text(name, limit=20)) for name in ("begin", "end"))
        ready = await call.services.exporting.export_range(
            call.principal, call.caller, why, begin=begin, end=end
        )
    except RequestError as problem:
        return _page(request, "", *await not_done(request, problem))
    return StreamingResponse(ready.zipped(), media_type=_ZIP, headers=_named(f"range-{begin}-{end}.zip"))


def _page(
    request: Request, chosen: str = "", problem: str = "", status: HTTPStatus = HTTPStatus.OK
) -> Response:
    call = call_of(request)
    return render(
        request,
        "auditor/evidence.html",
        status=status,
        active="/evidence",
        chosen=chosen,
        problem=problem,
        why=call.known.why,
        forms={str(form): label for form, label in FORMS.items()},
        withheld={str(part): label for part, label in PARTS.items()},
        needs_identity={str(Form.OPENED), str(Form.REDACTED)},
        num_unlocked=len(call.known.identities),
        num_needed=2 if needs_two(call) else 1,
        tree_size=call.services.audit.tree_size,
    )


def _form(text: str) -> Form:
    try:
        found = Form(text)
    except ValueError as error:
        raise RequestError("there is no such form of evidence", code="invalid_export") from error
    if found not in FORMS:
        raise RequestError("there is no such form of evidence", code="invalid_export")
    return found


def _chosen(text: str) -> tuple[list[int], list[str]]:
    """Numbers of entries, and ids of requests."""
    seqs, request_ids = [], []
    for each in re.split(r"[,\s]+", text.strip()):
        if each.isascii() and each.isdecimal():
            seqs.append(_number(each))
        elif each:
            request_ids.append(each)
    return seqs, request_ids


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise RequestError("entries are named by their numbers", code="invalid_export")
    return int(text)


def _redaction(call: Call) -> Redaction:
    parts = [each for each in call.form.getlist("parts") if isinstance(each, str)]
    try:
        withheld = frozenset(Part(each) for each in parts)
    except ValueError as error:
        raise RequestError("there is no such part", code="invalid_redaction") from error
    words = tuple(line.strip() for line in call.text("words").splitlines() if line.strip())
    return Redaction(parts=withheld, words=words, reason=call.text("reason", limit=1000).strip())


def _named(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


MENU = [NavItem("Evidence", "/evidence", Permission.READ_AUDIT)]
ROUTES = [
    route("/evidence", empty, Permission.READ_AUDIT),
    route("/evidence", export, Permission.READ_AUDIT, methods=("POST",)),
    route("/evidence/range", export_range, Permission.READ_AUDIT, methods=("POST",)),
    route("/evidence/{seq:int}", of_record, Permission.READ_AUDIT),
]
