"""What may be sent to `/v1/chat/completions`, and its way to `core`.

The rule for parameters, written once (every endpoint that generates keeps to it, and the guide says it):
- a parameter that this appliance implements is validated and used;
- a known parameter that can not change an answer here (`user`, `metadata`, …) is accepted and put on
  the record;
- a known parameter that would change the answer and is not implemented is refused with
  `unsupported_parameter`, unless it carries the value that means "off";
- any other parameter is refused with `unknown_parameter`. `null` always means "not given".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from appliance.api.body import Body, ModelName, refuse_unless_off
from appliance.api.formats import ResponseFormat
from appliance.api.sampled import Sampled, Tokens
from appliance.api.tool_schemas import ToolChoice, Tools, tooling_of
from appliance.api.turns import MAX_MESSAGES, Message, TextPart, conversation
from appliance.core import InferenceRequest, ModelSpec
from appliance.errors import RequestError

MAX_TOP_LOGPROBS = 20

NO_EFFECT = (
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
)
# Each with the values that mean "off"; anything else would change the answer.
OFF_VALUES: Mapping[str, tuple[object, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "web_search_options": (),
}
# Core knows five levels; the two above them are as much as a model here can give.
EFFORTS: Mapping[str, Literal["none", "minimal", "low", "medium", "high"]] = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}

Short = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Short],
    Field(max_length=16),
]


class Prediction(Body):
    """What a caller expects; a hint that other servers use to be faster."""

    type: Literal["content"]
    content: str | list[TextPart]


class ChatCompletionRequest(Sampled):
    """What a caller may send to `/v1/chat/completions`."""

    model: ModelName
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None  # the newer name: where both are given it counts
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    # No effect on the answer; on the record.
    metadata: Metadata | None = None
    prediction: Prediction | None = None
    prompt_cache_key: Short | None = None
    prompt_cache_options: Annotated[dict[Short, Short], Field(max_length=16)] | None = None
    prompt_cache_retention: Short | None = None
    safety_identifier: Short | None = None
    service_tier: Short | None = None
    store: bool | None = None
    user: Short | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    # Known, and not implemented: only the value that means "off" is taken (OFF_VALUES).
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    modalities: Any = None
    moderation: Any = None
    web_search_options: Any = None

    def to_core(self, request_id: str, model: ModelSpec | None) -> InferenceRequest:
        """The question. RequestError names what of it is not supported, or contradicts itself."""
        refuse_unless_off(self, OFF_VALUES)
        self.refuse_contradictions()
        if self.top_logprobs and not self.logprobs:
            raise RequestError(
                "top_logprobs needs logprobs: true", code="invalid_value", param="top_logprobs"
            )
        limit = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return InferenceRequest(
            request_id=request_id,
            model=self.model,
            messages=conversation(self.messages),
            sampling=self.sampling(
                model,
                max_tokens=limit,
                top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            ),
            n=self.n or 1,
            stream=bool(self.stream),
            schema=self.response_format.schema_text() if self.response_format else "",
            tooling=tooling_of(self.tools, self.tool_choice, parallel=self.parallel_tool_calls),
            effort=EFFORTS[self.reasoning_effort] if self.reasoning_effort else "",
            timeout_seconds=self.timeout,
            reproducible=bool(self.reproducible),
            annotations=self._annotations(),
        )

    def _annotations(self) -> dict[str, object]:
        said = annotations_of(self, NO_EFFECT)
        if names := [message.name for message in self.messages if message.name]:
            said["names"] = names
        return said


def annotations_of(asked: BaseModel, names: tuple[str, ...]) -> dict[str, object]:
    """What a caller sent besides, as the record keeps it."""
    plain: dict[str, object] = asked.model_dump(include=set(names), exclude_none=True)
    return plain
