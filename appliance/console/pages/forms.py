"""What several forms of these pages do alike."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request

from appliance.console.frame import record_refusal
from appliance.errors import ApplianceError
from appliance.statuses import status_of


async def not_done(request: Request, problem: ApplianceError) -> tuple[str, HTTPStatus]:
    """A form that is shown again: the refusal goes on the record; its words, and the page's status."""
    status = status_of(problem)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status is not HTTPStatus.SERVICE_UNAVAILABLE:
        status = HTTPStatus.BAD_REQUEST  # what was handed in does not hold: nothing is broken here
    await record_refusal(request, code=problem.code, status=status)
    words = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    return words[:1].upper() + words[1:], status
