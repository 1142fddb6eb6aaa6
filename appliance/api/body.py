"""What all request bodies have in common: how strictly they are read, and how a task is sent on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from appliance.api import errors as wire
from appliance.api import retrying
from appliance.api.border import visit_of
from appliance.api.streaming import unless_gone
from appliance.core import Finished
from appliance.errors import InternalError, RequestError
from appliance.exchange import Exchange
from appliance.services import services_of
from appliance.tasks import Answered, Task

_Body = TypeVar("_Body", bound="Body")

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]  # llama_token is an int32


def _boolean(value: Any) -> Any:
    """For pydantic 0 is `Literal[False]`, and 1 is `Literal[True]`."""
    if not isinstance(value, bool):
        raise PydanticCustomError("bool_type", "input should be a valid boolean")
    return value


Yes = Annotated[Literal[True], BeforeValidator(_boolean)]
No = Annotated[Literal[False], BeforeValidator(_boolean)]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]


class Body(BaseModel):
    """Strict: a string is no number, a number is no boolean, NaN is nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


async def parse(request: Request, kind: type[_Body]) -> _Body:
    """The request's body. RequestError names the first mistake by kind and place, never by value."""
    return read(await request.body(), kind)


def read(raw: bytes, kind: type[_Body]) -> _Body:
    """As `parse`, from the bytes."""
    try:
        found = kind.model_validate_json(raw)
    except ValidationError as error:
        raise wire.from_validation(error, raw) from None
    json.loads(raw, object_pairs_hook=_once)  # it has been read before: it is JSON, and not too deep
    return found


def _once(members: list[tuple[str, Any]]) -> None:
    """Of two members with one name each reader takes another: the record must hold what was asked."""
    if len({name for name, _ in members}) != len(members):
        raise RequestError("an object in the body has two members of one name", code="invalid_json")


def schema_of(kind: type[Body]) -> dict[str, Any]:
    """The body for the description of a route."""
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def refuse_unless_off(asked: BaseModel, off_values: Mapping[str, tuple[object, ...]]) -> None:
    """RequestError for the first known parameter whose value would need what is not here."""
    for name, off in off_values.items():
        value = getattr(asked, name)
        if value is not None and not any(_same(value, each) for each in off):
            raise RequestError(
                f"{name} is not supported by this appliance", code="unsupported_parameter", param=name
            )


def resolve(request: Request, name: str) -> str:
    """The id of the model behind an id or alias; an unknown name goes on to be refused by admission."""
    model = services_of(request.app).catalog.resolve(name)
    return model.id if model else name


async def perform(request: Request, task: Task) -> Answered:
    """Send a task through the sentence, and wait for its end; raises what refused or stopped it."""
    visit = visit_of(request.scope)
    exchange = await retrying.begin(request, task)
    ended: list[Finished] = []

    async def collect() -> None:
        await retrying.accepted(request, exchange)
        ended.append(await _end(exchange))

    try:
        await unless_gone(request.receive, collect(), exchange.gone)
    finally:
        visit.receipt = exchange.receipt
    if not isinstance(ended[0], Answered):
        raise InternalError("a task has ended without a result")
    return ended[0]


def answer(model: BaseModel, *, exclude_none: bool = False) -> Response:
    """A whole answer as JSON."""
    return Response(model.model_dump_json(exclude_none=exclude_none), media_type="application/json")


async def _end(exchange: Exchange) -> Finished:
    async for item in exchange.events():
        if isinstance(item, Finished):
            return item
    raise InternalError("an exchange has ended without its last event")


def _same(value: object, off: object) -> bool:
    # True == 1 in Python; on the wire they are different things.
    return type(value) is type(off) and value == off
