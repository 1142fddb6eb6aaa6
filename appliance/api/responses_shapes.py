"""What callers get back from `/v1/responses`, in OpenAI's shapes: items, and the response around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator

from appliance.api.logprobs import ContentLogprob
from appliance.api.responses_items import Status
from appliance.api.responses_schemas import (
    Allowed,
    FunctionTool,
    Named,
    ResponseRequest,
)
from appliance.core import SamplingParams
from appliance.core import Usage as CoreUsage


class OutputText(BaseModel):
    """A text that is said to the caller."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[dict[str, Any]] = []
    logprobs: list[ContentLogprob] = []


class ReasoningText(BaseModel):
    """What the model thought, as it thought it."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class OutputMessage(BaseModel):
    """An item of the answer: something said."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Status
    content: list[OutputText]


class ReasoningItem(BaseModel):
    """An item of the answer: something thought. There is never a summary, and nothing is sealed in it."""

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: Status
    summary: list[dict[str, Any]] = []
    content: list[ReasoningText]
    encrypted_content: None = None


class FunctionCallItem(BaseModel):
    """An item of the answer: a call of one of the caller's functions. `arguments` is JSON text."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = Annotated[OutputMessage | ReasoningItem | FunctionCallItem, Discriminator("type")]


class InputTokensDetails(BaseModel):
    """How much of the input was not computed again. What is kept for later is not counted: always 0."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """How much of the output was thought."""

    reasoning_tokens: int


class Usage(BaseModel):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int

    @classmethod
    def of(cls, usage: CoreUsage) -> Usage:
        """From the sentence's words to the wire's."""
        return cls(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens),
            output_tokens=usage.completion_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens),
            total_tokens=usage.total_tokens,
        )


class Problem(BaseModel):
    """Why a response failed, in one of the few codes that typed clients take."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class Incomplete(BaseModel):
    """Why a response is not whole."""

    reason: Literal["max_output_tokens", "content_filter"]


class Response(BaseModel):
    """An answer, and the request as it was understood."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False] = False
    error: Problem | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, str | None]
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"] = "disabled"
    usage: Usage | None = None
    user: str | None


def started(
    asked: ResponseRequest, sampling: SamplingParams, *, response_id: str, model: str, created_at: int
) -> Response:
    """A response of which nothing is said yet."""
    return Response(
        id=response_id,
        created_at=created_at,
        status="in_progress",
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        max_tool_calls=asked.max_tool_calls,
        metadata=asked.metadata or {},
        model=model,
        output=[],
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        previous_response_id=asked.previous_response_id,
        prompt_cache_key=asked.prompt_cache_key,
        reasoning={"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
        safety_identifier=asked.safety_identifier,
        store=bool(asked.store),
        temperature=sampling.temperature,
        text={"format": _format_of(asked), "verbosity": (asked.text and asked.text.verbosity) or "medium"},
        tool_choice=_choice_of(asked),
        tools=_tools_of(asked.functions),
        top_logprobs=asked.top_logprobs or 0,
        top_p=sampling.top_p,
        user=asked.user,
    )


def _format_of(asked: ResponseRequest) -> dict[str, Any]:
    form = asked.text.format if asked.text is not None else None
    if form is None or form.type != "json_schema":
        return {"type": "text" if form is None else form.type}
    return {
        "type": form.type,
        "name": form.name,
        "description": form.description,
        "schema": form.schema_,
        "strict": True,
    }


def _choice_of(asked: ResponseRequest) -> str | dict[str, Any]:
    choice = asked.tool_choice
    if isinstance(choice, Named | Allowed):
        return choice.model_dump()
    return choice if isinstance(choice, str) else "auto"


def _tools_of(tools: Sequence[FunctionTool]) -> list[dict[str, Any]]:
    """As the model was offered them. Typed clients of earlier years want every field."""
    return [
        {
            "type": "function",
            "name": each.name,
            "description": each.description,
            "parameters": {"type": "object"} if each.parameters is None else each.parameters,
            "strict": each.strict is not False,
        }
        for each in tools
    ]
