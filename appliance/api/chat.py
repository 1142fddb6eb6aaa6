"""`POST /v1/chat/completions`: from wire to sentence and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError

from appliance.accounts.roles import Permission
from appliance.api import errors as wire
from appliance.api.access import require
from appliance.api.answering import Whole, ask, whole
from appliance.api.border import visit_of
from appliance.api.completion import ChatCompletion, ChatCompletionChunk, fingerprint_of, usage_of
from appliance.api.schemas import ChatCompletionRequest
from appliance.api.streaming import DONE, EventStream, event
from appliance.core import Delta, Finished, TextPart
from appliance.exchange import Exchange
from appliance.services import Services, services_of

router = APIRouter()

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ChatCompletionRequest.model_json_schema()},
        },
    }
}


@router.post(
    "/v1/chat/completions",
    dependencies=[require(Permission.INFER)],
    openapi_extra=_BODY,
    response_model=ChatCompletion,
)
async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation, in one piece or as a stream of server-sent events."""
    services = services_of(request.app)
    asked = await _parse(request)
    model = services.catalog.resolve(asked.model)
    exchange = await ask(request, asked.to_core(visit_of(request.scope).request_id, model))
    reply = _Reply(services, exchange, wants_usage=asked.wants_usage)
    if asked.stream:
        return EventStream(reply.frames(), exchange.gone)
    return _json(reply.completion(await whole(request, exchange)))


class _Reply:
    """One answer on its way into the wire shape."""

    def __init__(self, services: Services, exchange: Exchange, *, wants_usage: bool) -> None:
        self._exchange = exchange
        self._wants_usage = wants_usage
        self._created = services.clock.now_us() // 1_000_000
        self._model = exchange.model.id
        self._fingerprint = fingerprint_of(exchange.model, services.engines[exchange.model.id].status.ready)

    def completion(self, answer: Whole) -> ChatCompletion:
        """The whole answer as one object."""
        return ChatCompletion.of(
            request_id=self._exchange.request.request_id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            text=answer.choices[0].text,
            finished=answer.finished,
        )

    async def frames(self) -> AsyncIterator[bytes]:
        """Role first, then pieces, the finish reason, usage where asked for, and `[DONE]`."""
        yield self._chunk({"role": "assistant", "content": ""})
        async for item in self._exchange.events():
            match item:
                case Delta():
                    text = "".join(each.text for each in item.parts if isinstance(each, TextPart))
                    if text:
                        yield self._chunk({"content": text})
                case Finished():
                    yield self._chunk({}, finish_reason=item.reason)
                    if self._wants_usage:
                        yield self._usage_chunk(item)
        yield DONE

    def _chunk(self, delta: dict[str, str], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._frame(ChatCompletionChunk(**self._envelope(), choices=[choice]))

    def _usage_chunk(self, finished: Finished) -> bytes:
        return self._frame(
            ChatCompletionChunk(**self._envelope(), choices=[], usage=usage_of(finished.usage))
        )

    def _envelope(self) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._exchange.request.request_id.removeprefix('req_')}",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": self._fingerprint,
        }

    def _frame(self, chunk: ChatCompletionChunk) -> bytes:
        # `usage` stands on the other chunks only where the caller asked for it, and is null there.
        excluded = set() if self._wants_usage else {"usage"}
        return event(chunk.model_dump_json(exclude=excluded).encode("utf-8"))


async def _parse(request: Request) -> ChatCompletionRequest:
    try:
        asked = ChatCompletionRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise wire.from_validation(error) from None
    asked.refuse_unsupported()
    return asked


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")
