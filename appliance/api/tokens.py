"""`POST /tokenize` and `/detokenize`, in the shapes of llama-server and of vLLM.

The two shapes are told apart by their first word: `content` is llama-server's, `prompt` or `messages`
are vLLM's. In both a caller's text becomes control tokens only with `parse_special: true`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.body import Body, ModelName, TokenId, Yes, answer, parse, perform, resolve, schema_of
from appliance.api.border import visit_of
from appliance.api.turns import MAX_MESSAGES, Message, conversation
from appliance.catalog import DEFAULT_ALIAS
from appliance.errors import InternalError, RequestError
from appliance.tasks import DetokenizeTask, Text, TokenizeTask, Tokens

router = APIRouter()

_SOURCES = ("content", "prompt", "messages")


class TokenizeRequest(Body):
    """What a caller may send: exactly one of `content`, `prompt` and `messages`."""

    model: ModelName | None = None
    content: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: Yes | None = None

    def source(self) -> str:
        """The one of three that is given. RequestError for none or several."""
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if not given:
            raise RequestError(
                "give content, prompt or messages", code="missing_required_parameter", param="content"
            )
        if len(given) > 1:
            raise RequestError(f"give only one of {', '.join(given)}", code="invalid_value", param=given[1])
        return given[0]

    def to_core(self, request_id: str, model: str) -> TokenizeTask:
        source = self.source()
        if source == "messages":
            for name in ("add_special", "add_special_tokens", "parse_special"):
                if getattr(self, name):
                    raise RequestError(
                        f"{name} says nothing about messages: their control tokens are the template's",
                        code="unsupported_parameter",
                        param=name,
                    )
        text = self.content if self.content is not None else self.prompt
        # vLLM adds BOS where nothing is said, llama-server does not: each shape keeps its habit.
        habit = source == "prompt"
        named = self.add_special_tokens if self.add_special is None else self.add_special
        return TokenizeTask(
            request_id=request_id,
            model=model,
            source=conversation(self.messages or ()) if text is None else text,
            add_special=habit if named is None else named,
            parse_special=bool(self.parse_special),
            with_pieces=bool(self.with_pieces or self.return_token_strs),
        )


class Piece(BaseModel):
    """A token with its text; a list of bytes where it is no whole UTF-8."""

    id: int
    piece: str | list[int]


class ContentTokens(BaseModel):
    """llama-server's answer."""

    tokens: list[int] | list[Piece]


class PromptTokens(BaseModel):
    """vLLM's answer. `max_model_len` counts prompt and answer together."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Body):
    """What a caller may send."""

    model: ModelName | None = None
    tokens: list[TokenId]


class DetokenizeResponse(BaseModel):
    """The same text under both names: `content` is llama-server's, `prompt` vLLM's."""

    content: str
    prompt: str


@router.post(
    "/tokenize",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(TokenizeRequest),
    response_model=ContentTokens | PromptTokens,
)
async def tokenize(request: Request) -> Response:
    """The token ids of a text or a conversation."""
    asked = await parse(request, TokenizeRequest)
    model = resolve(request, asked.model or DEFAULT_ALIAS)
    task = asked.to_core(visit_of(request.scope).request_id, model)
    done = await perform(request, task)
    found = done.result
    if not isinstance(found, Tokens):
        raise InternalError("a tokenisation has another result")
    if asked.content is not None:
        if not asked.with_pieces:
            return answer(ContentTokens(tokens=list(found.ids)))
        pieces = [
            Piece(id=number, piece=_piece(data)) for number, data in zip(found.ids, found.pieces, strict=True)
        ]
        return answer(ContentTokens(tokens=pieces))
    strings = [each.decode("utf-8", "replace") for each in found.pieces] if asked.return_token_strs else None
    return answer(
        PromptTokens(
            count=len(found.ids), max_model_len=found.n_ctx, tokens=list(found.ids), token_strs=strings
        )
    )


@router.post(
    "/detokenize",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(DetokenizeRequest),
    response_model=DetokenizeResponse,
)
async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    asked = await parse(request, DetokenizeRequest)
    task = DetokenizeTask(
        request_id=visit_of(request.scope).request_id,
        model=resolve(request, asked.model or DEFAULT_ALIAS),
        tokens=tuple(asked.tokens),
    )
    done = await perform(request, task)
    if not isinstance(done.result, Text):
        raise InternalError("a detokenisation has another result")
    return answer(DetokenizeResponse(content=done.result.text, prompt=done.result.text))


def _piece(data: bytes) -> str | list[int]:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return list(data)
