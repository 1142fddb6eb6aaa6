"""`POST /v1/responses`: OpenAI's newer way to ask, over the same one sentence."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi import Response as HttpResponse

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.answering import ask, call_id
from appliance.api.body import answer, parse, schema_of
from appliance.api.border import visit_of
from appliance.api.responses_events import Event
from appliance.api.responses_schemas import ResponseRequest
from appliance.api.responses_shapes import Response, started
from appliance.api.responses_telling import Telling, frame
from appliance.api.streaming import EventStream, unless_gone
from appliance.core import Delta, InferenceRequest
from appliance.errors import ApplianceError, Refused
from appliance.exchange import Exchange
from appliance.services import services_of

router = APIRouter()


@router.post(
    "/v1/responses",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(ResponseRequest),
    response_model=Response,
)
async def create_response(request: Request) -> HttpResponse:
    """Answer an input, in one piece or as a stream of server-sent events."""
    services = services_of(request.app)
    asked = await parse(request, ResponseRequest)
    asked.refuse_unsupported()
    _refuse_to_store(asked)
    question = asked.to_core(visit_of(request.scope).request_id, services.catalog.resolve(asked.model))
    exchange = await ask(request, question)
    reply = _Reply(asked, question, exchange)
    if asked.stream:
        return EventStream(reply.frames(), exchange.gone)
    await unless_gone(request.receive, reply.collect(), exchange.gone)
    return answer(reply.response)


class _Reply:
    """One answer on its way into the wire shape."""

    def __init__(self, asked: ResponseRequest, question: InferenceRequest, exchange: Exchange) -> None:
        self._exchange = exchange
        self._telling = Telling(
            started(
                asked,
                question.sampling,
                response_id=f"resp_{exchange.request.request_id.removeprefix('req_')}",
                model=exchange.model.id,
                created_at=exchange.created,
            ),
            lambda call: call_id(exchange, 0, call),
        )

    @property
    def response(self) -> Response:
        """As it stands now."""
        return self._telling.response

    async def collect(self) -> None:
        """Wait for the whole answer; raises what stopped it."""
        async for _ in self._events():
            pass

    async def frames(self) -> AsyncIterator[bytes]:
        """Every event. What stops the answer is an event too: the status was sent long ago."""
        for each in self._telling.begin():
            yield frame(each)
        try:
            async for each in self._events():
                yield frame(each)
        except ApplianceError as error:
            for each in self._telling.fail(error):
                yield frame(each)

    async def _events(self) -> AsyncIterator[Event]:
        async for item in self._exchange.events():
            told = (
                self._telling.add(item)
                if isinstance(item, Delta)
                else self._telling.end(item, now=self._exchange.completed)
            )
            for each in told:
                yield each


def _refuse_to_store(asked: ResponseRequest) -> None:
    """Deny by default: nothing of a conversation is kept beside the record."""
    if asked.store:
        raise Refused(
            "this appliance does not store responses",
            code="store_not_allowed",
            param="store",
            hint="send store: false and the whole conversation as input",
        )
    if asked.previous_response_id is not None:
        raise Refused(
            "this appliance does not store responses",
            code="store_not_allowed",
            param="previous_response_id",
            hint="send the whole conversation as input",
        )
