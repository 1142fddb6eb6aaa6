"""`POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's words for the same sentence."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.answering import ask, whole
from appliance.api.body import answer, parse, perform, resolve, schema_of
from appliance.api.border import visit_of
from appliance.api.messages_answer import MessageStream, Teller
from appliance.api.messages_schemas import Conversation, CountTokensRequest, Effort, MessagesRequest
from appliance.api.messages_shapes import Message, MessageTokensCount
from appliance.api.messages_turns import turns_of
from appliance.api.sampled import sampling_of
from appliance.core import InferenceRequest, ModelSpec
from appliance.errors import InternalError
from appliance.services import Services, services_of
from appliance.tasks import CountTask, TokenCount
from appliance.terms import Endpoint

router = APIRouter()


@router.post(
    "/v1/messages",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(MessagesRequest),
    response_model=Message,
)
async def create_message(request: Request) -> Response:
    """Answer a conversation, whole or as a stream of named events."""
    asked = await parse(request, MessagesRequest)
    asked.refuse_unsupported()
    services = services_of(request.app)
    model = services.catalog.resolve(asked.model)
    request_id = visit_of(request.scope).request_id
    effort = _effort(services, asked, model)
    exchange = await ask(request, _question(asked, request_id, model, effort))
    teller = Teller(exchange, _thoughts(asked))
    if asked.stream:
        return MessageStream(teller, exchange, request_id)
    return answer(teller.whole(await whole(request, exchange)))


@router.post(
    "/v1/messages/count_tokens",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(CountTokensRequest),
    response_model=MessageTokensCount,
)
async def count_message_tokens(request: Request) -> Response:
    """Count without computing."""
    asked = await parse(request, CountTokensRequest)
    asked.refuse_unsupported()
    services = services_of(request.app)
    task = CountTask(
        request_id=visit_of(request.scope).request_id,
        model=resolve(request, asked.model),
        messages=turns_of(asked),
        tooling=asked.tooling(),
        effort=_effort(services, asked, services.catalog.resolve(asked.model)),
        annotations=asked.annotations(),
    )
    done = await perform(request, task)
    if not isinstance(done.result, TokenCount):
        raise InternalError("a count has another result")
    return answer(MessageTokensCount(input_tokens=done.result.num_tokens))


def _question(
    asked: MessagesRequest, request_id: str, model: ModelSpec | None, effort: Effort
) -> InferenceRequest:
    return InferenceRequest(
        request_id=request_id,
        model=asked.model,
        messages=turns_of(asked),
        sampling=sampling_of(
            model,
            temperature=asked.temperature,
            top_p=asked.top_p,
            top_k=asked.top_k,
            max_tokens=asked.max_tokens,
            stop=tuple(asked.stop_sequences or ()),
        ),
        endpoint=Endpoint.MESSAGES,
        stream=bool(asked.stream),
        schema=asked.answer_schema(),
        tooling=asked.tooling(),
        effort=effort,
        timeout_seconds=asked.timeout,
        reproducible=bool(asked.reproducible),
        annotations=asked.annotations(),
    )


def _effort(services: Services, asked: Conversation, model: ModelSpec | None) -> Effort:
    """What this model can be told of thinking. One that is not loaded yet is told what was asked: its worker
    refuses what it can not do.
    """
    ready = services.fleet.told(model) if model else None
    if ready is None:
        return asked.effort(thinks=True, can_skip=False)
    return asked.effort(thinks=ready.thinks, can_skip=ready.can_skip_thinking)


def _thoughts(asked: Conversation) -> Literal["shown", "omitted", "none"]:
    if not asked.shows_thinking:
        return "none"
    return "omitted" if asked.thinking and asked.thinking.display == "omitted" else "shown"
