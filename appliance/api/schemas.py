"""The OpenAI wire shapes of `/v1/chat/completions`, and their way to and from `core`.

The rule for parameters, written once (`chat` reads it from here, and so does the guide):
- a parameter that this appliance implements is validated and used;
- a known parameter that can not change an answer here (`user`, `metadata`, …) is accepted and put on
  the record;
- a known parameter that would change the answer and is not implemented is refused with
  `unsupported_parameter`, unless it carries the value that means "off";
- any other parameter is refused with `unknown_parameter`. `null` always means "not given".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints

from appliance.api.body import Body as _Wire
from appliance.api.body import refuse_unless_off
from appliance.core import ChatMessage, InferenceRequest, ModelSpec, SamplingParams
from appliance.engine.wire import SEEDS
from appliance.errors import RequestError

_T = TypeVar("_T")

MAX_MESSAGES = 2048
MAX_STOPS = 4
MAX_TOKENS = 1 << 24
MAX_SCHEMA_CHARACTERS = 64 * 1024
_ANY_OBJECT = '{"type":"object"}'

NO_EFFECT = (
    "metadata",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
)
# Each with the values that mean "off"; anything else would change the answer.
OFF_VALUES: Mapping[str, tuple[object, ...]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "reasoning_effort": (),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}


class TextPart(_Wire):
    """A piece of a message's content; only text is understood."""

    type: Literal["text"]
    text: str


class Message(_Wire):
    """One turn. `developer` is OpenAI's newer word for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: Annotated[str, StringConstraints(max_length=64)] | None = None
    refusal: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    function_call: None = None
    audio: None = None
    annotations: list[Any] | None = None

    def to_core(self) -> ChatMessage:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return ChatMessage(role="system" if self.role == "developer" else self.role, content=text)


class StreamOptions(_Wire):
    """`include_obfuscation` is tolerated: padding hides nothing inside one building's network."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchema(_Wire):
    """A schema and its name. `strict` is the only way here: answers always keep to it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(_Wire):
    """Free text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ChatCompletionRequest(_Wire):
    """What a caller may send to `/v1/chat/completions`."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    response_format: ResponseFormat | None = None
    # Ours: the same request gives the same answer, bit by bit, and it can be replayed from the record.
    reproducible: bool | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    # No effect on the answer; on the record.
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    user: str | None = None
    # Known, and not implemented: only the value that means "off" is taken (OFF_VALUES).
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    logit_bias: Any = None
    logprobs: Any = None
    modalities: Any = None
    n: Any = None
    reasoning_effort: Any = None
    store: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_logprobs: Any = None
    verbosity: Any = None
    web_search_options: Any = None

    def refuse_unsupported(self) -> None:
        """RequestError for the first known parameter whose value would need what is not here."""
        refuse_unless_off(self, OFF_VALUES)
        if self.stream_options is not None and not self.stream:
            raise RequestError(
                "stream_options needs stream: true", code="invalid_value", param="stream_options"
            )
        self._schema()

    def to_core(self, request_id: str, model: ModelSpec | None) -> InferenceRequest:
        """The question, with the model's own defaults where the caller named no value."""
        defaults = model.sampling if model else SamplingParams()
        limit = self.max_completion_tokens
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        annotations = {name: value for name in NO_EFFECT if (value := getattr(self, name)) is not None}
        if names := [message.name for message in self.messages if message.name]:
            annotations["names"] = names
        return InferenceRequest(
            request_id=request_id,
            model=model.id if model else self.model,
            messages=tuple(message.to_core() for message in self.messages),
            sampling=SamplingParams(
                temperature=_or(self.temperature, defaults.temperature),
                top_p=_or(self.top_p, defaults.top_p),
                top_k=_or(self.top_k, defaults.top_k),
                min_p=_or(self.min_p, defaults.min_p),
                repeat_penalty=_or(self.repeat_penalty, defaults.repeat_penalty),
                presence_penalty=_or(self.presence_penalty, defaults.presence_penalty),
                frequency_penalty=_or(self.frequency_penalty, defaults.frequency_penalty),
                seed=None if self.seed is None else self.seed % SEEDS,
                max_tokens=limit if limit is not None else self.max_tokens,
                stop=stop,
            ),
            stream=bool(self.stream),
            schema=self._schema(),
            reproducible=bool(self.reproducible),
            annotations=annotations,
        )

    def _schema(self) -> str:
        """The schema's text; empty where the answer is free. RequestError where it is too large."""
        asked = self.response_format
        if asked is None or asked.type == "text":
            return ""
        if asked.type == "json_object":
            return _ANY_OBJECT
        if asked.json_schema is None:
            raise RequestError(
                "missing required parameter: response_format.json_schema",
                code="missing_required_parameter",
                param="response_format.json_schema",
            )
        text = json.dumps(asked.json_schema.schema_, ensure_ascii=False, separators=(",", ":"))
        if len(text) > MAX_SCHEMA_CHARACTERS:
            raise RequestError(
                f"the schema is longer than {MAX_SCHEMA_CHARACTERS} characters",
                code="unsupported_schema",
                param="response_format.json_schema.schema",
            )
        return text

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value
