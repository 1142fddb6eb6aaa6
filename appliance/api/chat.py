"""`POST /v1/chat/completions`: from wire to sentence and back."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.answering import ask, whole
from appliance.api.body import answer, parse, schema_of
from appliance.api.border import visit_of
from appliance.api.chat_reply import ChatReply
from appliance.api.chat_shapes import ChatCompletion
from appliance.api.completion import stamp_of
from appliance.api.schemas import ChatCompletionRequest
from appliance.api.streaming import EventStream
from appliance.services import services_of

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(ChatCompletionRequest),
    response_model=ChatCompletion,
)
async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation, in one piece or as a stream of server-sent events."""
    services = services_of(request.app)
    asked = await parse(request, ChatCompletionRequest)
    model = services.catalog.resolve(asked.model)
    exchange = await ask(request, asked.to_core(visit_of(request.scope).request_id, model))
    reply = ChatReply(
        exchange,
        stamp_of(services, exchange),
        wants_usage=asked.wants_usage,
        wants_logprobs=bool(asked.logprobs),
    )
    if asked.stream:
        return EventStream(reply.frames(), exchange.gone)
    return answer(reply.completion(await whole(request, exchange)))
