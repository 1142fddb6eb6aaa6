"""`POST /v1/embeddings`, in OpenAI's shape: texts or token ids in, vectors of length 1 out."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.body import Body, ModelName, TokenId, parse, perform, resolve, schema_of
from appliance.api.border import visit_of
from appliance.errors import InternalError, RequestError
from appliance.tasks import EmbedTask, Vectors

MAX_INPUTS = 2048  # OpenAI's bound
MAX_DIMENSIONS = 1 << 20
_ROWS_AT_ONCE = 32

router = APIRouter()


class EmbeddingRequest(Body):
    """What a caller may send. `dimensions` must be the model's own: its vectors can not be cut."""

    model: ModelName
    input: str | Annotated[list[str | TokenId | list[TokenId]], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS)] | None = None
    user: str | None = None  # no effect; on the record

    def inputs(self) -> tuple[str | tuple[int, ...], ...]:
        """The inputs one by one. RequestError where they are none, too many, empty or mixed."""
        given = self.input
        if isinstance(given, str):
            return (_text(given, "input"),)
        if all(isinstance(each, int) for each in given):
            return (tuple(each for each in given if isinstance(each, int)),)
        if len(given) > MAX_INPUTS:
            raise RequestError(
                f"input may hold at most {MAX_INPUTS} items", code="invalid_value", param="input"
            )
        texts = [_text(each, f"input[{at}]") for at, each in enumerate(given) if isinstance(each, str)]
        arrays = [_array(each, f"input[{at}]") for at, each in enumerate(given) if isinstance(each, list)]
        if len(given) not in {len(texts), len(arrays)}:
            raise RequestError(
                "input must hold only texts, only token ids or only lists of token ids",
                code="invalid_type",
                param="input",
            )
        return tuple(texts or arrays)

    def to_core(self, request_id: str, model: str) -> EmbedTask:
        return EmbedTask(
            request_id=request_id,
            model=model,
            inputs=self.inputs(),
            dimensions=self.dimensions,
            annotations={"user": self.user} if self.user is not None else {},
        )


class Embedding(BaseModel):
    """One vector: numbers, or base64 of float32, little-endian."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """All of them, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


@router.post(
    "/v1/embeddings",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(EmbeddingRequest),
    response_model=EmbeddingList,
)
async def create_embeddings(request: Request) -> Response:
    """A vector for each input."""
    asked = await parse(request, EmbeddingRequest)
    task = asked.to_core(visit_of(request.scope).request_id, resolve(request, asked.model))
    done = await perform(request, task)
    if not isinstance(done.result, Vectors):
        raise InternalError("an embedding has another result")
    data = await _render(done.result, _base64 if asked.encoding_format == "base64" else _floats)
    used = EmbeddingUsage(prompt_tokens=done.usage.prompt_tokens, total_tokens=done.usage.prompt_tokens)
    # `EmbeddingList` around rows that are JSON already: the one answer that can have millions of numbers.
    frame = EmbeddingList(data=[], model=task.model, usage=used).model_dump_json().encode()
    head, tail = frame.split(b'"data":[]', 1)
    return Response(b"".join((head, b'"data":[', data, b"]", tail)), media_type="application/json")


async def _render(vectors: Vectors, form: Callable[[bytes], list[float] | str]) -> bytes:
    """The items of the list. Now and then it gives way: a stalled loop would stall everybody's commits."""
    items = []
    for index, row in enumerate(vectors.rows()):
        items.append(Embedding.model_construct(index=index, embedding=form(row)).model_dump_json())
        if index % _ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return ",".join(items).encode()


def _floats(row: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(row) // 4}f", row))


def _base64(row: bytes) -> str:
    return base64.b64encode(row).decode("ascii")


def _text(given: str, param: str) -> str:
    if not given:
        raise RequestError("an input can not be an empty text", code="invalid_value", param=param)
    return given


def _array(given: list[int], param: str) -> tuple[int, ...]:
    if not given:
        raise RequestError("an input can not be an empty list", code="invalid_value", param=param)
    return tuple(given)
