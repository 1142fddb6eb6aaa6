"""`POST /v1/responses/input_tokens`: what an input will cost, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.body import (
    Body,
    ModelName,
    answer,
    parse,
    perform,
    refuse_unless_off,
    resolve,
    schema_of,
)
from appliance.api.border import visit_of
from appliance.api.turns import MAX_MESSAGES
from appliance.catalog import DEFAULT_ALIAS
from appliance.core import ChatMessage
from appliance.errors import InternalError
from appliance.tasks import CountTask, TokenCount

# Each with the values that mean "off"; anything else would change the count.
OFF_VALUES: Mapping[str, tuple[object, ...]] = {
    "conversation": (),
    "parallel_tool_calls": (True, False),
    "personality": (),
    "previous_response_id": (),
    "reasoning": ({},),
    "text": ({}, {"format": {"type": "text"}}),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "truncation": ("disabled",),
}

router = APIRouter()


class InputText(Body):
    """A piece of an item's content; only text is understood."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class Item(Body):
    """One turn of the input."""

    type: Literal["message"] | None = None
    id: str | None = None
    status: str | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Annotated[list[InputText], Field(min_length=1)]

    def to_core(self) -> ChatMessage:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return ChatMessage(role="system" if self.role == "developer" else self.role, content=text)


class InputTokensRequest(Body):
    """What a caller may send."""

    model: ModelName | None = None
    input: str | Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES)]
    instructions: str | None = None
    # Known, and not implemented: only the value that means "off" is taken (OFF_VALUES).
    conversation: Any = None
    parallel_tool_calls: Any = None
    personality: Any = None
    previous_response_id: Any = None
    reasoning: Any = None
    text: Any = None
    tool_choice: Any = None
    tools: Any = None
    truncation: Any = None

    def to_core(self, request_id: str, model: str) -> CountTask:
        turns = (
            [ChatMessage("user", self.input)]
            if isinstance(self.input, str)
            else [each.to_core() for each in self.input]
        )
        if self.instructions is not None:
            turns.insert(0, ChatMessage("system", self.instructions))
        return CountTask(request_id=request_id, model=model, messages=tuple(turns))


class InputTokens(BaseModel):
    """The tokens of the conversation in the model's chat template, up to where its answer begins."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


@router.post(
    "/v1/responses/input_tokens",
    dependencies=[require(Permission.INFER)],
    openapi_extra=schema_of(InputTokensRequest),
    response_model=InputTokens,
)
async def count_input_tokens(request: Request) -> Response:
    """Count without computing."""
    asked = await parse(request, InputTokensRequest)
    refuse_unless_off(asked, OFF_VALUES)
    model = resolve(request, asked.model or DEFAULT_ALIAS)
    done = await perform(request, asked.to_core(visit_of(request.scope).request_id, model))
    if not isinstance(done.result, TokenCount):
        raise InternalError("a count has another result")
    return answer(InputTokens(input_tokens=done.result.num_tokens))
