"""`/v1/responses`: OpenAI's newer way to ask, over the same one sentence, and what a key had kept of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from fastapi import Response as HttpResponse
from pydantic import BaseModel

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.answering import ask, call_id
from appliance.api.body import answer, parse, schema_of
from appliance.api.border import visit_of
from appliance.api.responses_events import Event
from appliance.api.responses_kept import Keeping, Kept, items_of
from appliance.api.responses_schemas import ResponseRequest
from appliance.api.responses_shapes import Response, started
from appliance.api.responses_telling import Telling, frame
from appliance.api.streaming import EventStream, unless_gone
from appliance.core import Delta, Finished, InferenceRequest
from appliance.errors import ApplianceError, InternalError, RequestError
from appliance.exchange import Exchange
from appliance.services import services_of

_MAX_LISTED: Final = 100
_DEFAULT_LISTED: Final = 20
_NO_EFFECT: Final = frozenset({"include", "include[]"})

router = APIRouter()


class DeletedResponse(BaseModel):
    """It is gone."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ItemList(BaseModel):
    """A page of the items that a response answered."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post(
    "/v1/responses",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(ResponseRequest),
    response_model=Response,
)
async def create_response(request: Request) -> HttpResponse:
    """Answer an input, in one piece or as a stream of server-sent events."""
    asked = await parse(request, ResponseRequest)
    asked.refuse_unsupported()
    keeping = Keeping(request)
    earlier = await keeping.earlier(asked)
    model = services_of(request.app).catalog.resolve(asked.model)
    question = asked.to_core(visit_of(request.scope).request_id, model, items_of(earlier))
    exchange = await ask(request, question)
    reply = _Reply(asked, exchange, keeping, earlier)
    if asked.stream:
        return EventStream(reply.frames(), exchange.gone)
    await unless_gone(request.receive, reply.collect(), exchange.gone)
    return answer(reply.response)


@router.get(
    "/v1/responses/{response_id}",
    dependencies=[require(Permission.INFER)],
    response_model=Response,
)
async def retrieve_response(request: Request, response_id: str) -> HttpResponse:
    """A response that this key had stored, as it was answered."""
    given = _query(request, known=frozenset({"stream", "include_obfuscation", "starting_after"}))
    if given.get("stream", "false") != "false":
        raise RequestError(
            "a stored response is told in one piece", code="unsupported_parameter", param="stream"
        )
    kept = await Keeping(request).read(response_id)
    return answer(Response.model_validate(kept.response))


@router.delete(
    "/v1/responses/{response_id}",
    dependencies=[require(Permission.INFER)],
    response_model=DeletedResponse,
)
async def delete_response(request: Request, response_id: str) -> HttpResponse:
    """Remove a response that this key had stored. What is on the record stays there."""
    _query(request, known=frozenset())
    await Keeping(request).delete(response_id)
    return answer(DeletedResponse(id=response_id))


@router.get(
    "/v1/responses/{response_id}/input_items",
    dependencies=[require(Permission.INFER)],
    response_model=ItemList,
)
async def list_input_items(request: Request, response_id: str) -> HttpResponse:
    """What a stored response answered: its whole conversation, the newest item first."""
    given = _query(request, known=frozenset({"after", "limit", "order"}))
    order, limit = given.get("order", "desc"), given.get("limit", str(_DEFAULT_LISTED))
    if order not in {"asc", "desc"}:
        raise RequestError("order is asc or desc", code="invalid_value", param="order")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:4]) <= _MAX_LISTED):
        raise RequestError(f"limit is 1 to {_MAX_LISTED}", code="invalid_value", param="limit")
    items = (await Keeping(request).read(response_id)).items
    if order == "desc":
        items = items[::-1]
    if "after" in given:
        places = [at for at, each in enumerate(items) if each["id"] == given["after"]]
        if not places:
            raise RequestError("no item has this id", code="invalid_value", param="after")
        items = items[places[0] + 1 :]
    page = items[: int(limit)]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return answer(ItemList(data=page, first_id=first, last_id=last, has_more=len(items) > len(page)))


def _query(request: Request, *, known: frozenset[str]) -> Mapping[str, str]:
    """The query's parameters. RequestError for one that is not known: never ignored in silence."""
    for name in request.query_params:
        if name not in known | _NO_EFFECT:
            raise RequestError("unknown parameter in the query", code="unknown_parameter")
    return request.query_params


class _Reply:
    """One answer on its way into the wire shape."""

    def __init__(
        self,
        asked: ResponseRequest,
        exchange: Exchange,
        keeping: Keeping,
        earlier: Kept | None,
    ) -> None:
        if not isinstance(exchange.request, InferenceRequest):
            raise InternalError("only questions have responses")
        self._asked = asked
        self._exchange = exchange
        self._keeping = keeping
        self._earlier = earlier
        self._telling = Telling(
            started(
                asked,
                exchange.request.sampling,
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
        """The last one is told when the response is kept, where it is to be: the next question may come."""
        async for item in self._exchange.events():
            if isinstance(item, Delta):
                for each in self._telling.add(item):
                    yield each
            elif isinstance(item, Finished):
                for each in self._telling.end(item):
                    yield each
                response = self._telling.finished(item, now=self._exchange.completed)
                await self._keeping.keep(self._exchange, self._asked, response, self._earlier)
                yield self._telling.close(response)
