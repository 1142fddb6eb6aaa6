"""`POST /v1/completions`: texts or token ids to go on from, without a chat template."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.answering import ask, whole
from appliance.api.body import answer, parse, schema_of
from appliance.api.border import visit_of
from appliance.api.completion import stamp_of
from appliance.api.completions_reply import CompletionReply
from appliance.api.completions_schemas import Completion, CompletionRequest
from appliance.api.streaming import EventStream
from appliance.services import services_of

router = APIRouter()


@router.post(
    "/v1/completions",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(CompletionRequest),
    response_model=Completion,
)
async def create_completion(request: Request) -> Response:
    """Go on from one or several prompts, in one piece or as a stream of server-sent events."""
    services = services_of(request.app)
    asked = await parse(request, CompletionRequest)
    model = services.catalog.resolve(asked.model)
    exchange = await ask(request, asked.to_core(visit_of(request.scope).request_id, model))
    reply = CompletionReply(
        exchange,
        stamp_of(services, exchange),
        echoes=asked.echoes(),
        wants_usage=asked.wants_usage,
        wants_logprobs=asked.logprobs is not None,
    )
    if asked.stream:
        return EventStream(reply.frames(), exchange.gone)
    return answer(reply.completion(await whole(request, exchange)))
