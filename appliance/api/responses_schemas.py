"""What callers may send to `/v1/responses`, by the rule for parameters that stands in `schemas.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag

from appliance.api.body import Body, ModelName, refuse_unless_off
from appliance.api.formats import ANY_OBJECT, Name, schema_text
from appliance.api.responses_items import Input, Item, conversation, kind_of, refuse_others
from appliance.api.sampled import (
    MAX_STOPS,
    MAX_TIMEOUT_SECONDS,
    Stop,
    Tokens,
    drawing_of,
    refuse_options_alone,
    sampling_of,
)
from appliance.api.schemas import EFFORTS, MAX_TOP_LOGPROBS, Metadata, Short, annotations_of
from appliance.api.tooling import AS_IT_LIKES, MAX_TOOLS, Offer, Wanted, tooling
from appliance.core import ChatMessage, InferenceRequest, ModelSpec, SamplingParams, Tooling
from appliance.errors import RequestError
from appliance.terms import Endpoint

_LOGPROBS: Final = "message.output_text.logprobs"
NO_EFFECT: Final = (
    "include",
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
)
# Each with the values that mean "off"; anything else would change the answer.
OFF_VALUES: Final[Mapping[str, tuple[object, ...]]] = {
    "access_programs": (),
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "moderation": (),
    "prompt": (),
    "truncation": ("disabled",),
}
_BUILT_IN: Final = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "custom",
        "file_search",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)


class FunctionTool(Body):
    """A function of the caller's. Chat puts these fields one level deeper."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class OtherTool(Body):
    """A tool that a provider runs: nothing here runs one."""

    model_config = ConfigDict(extra="allow")

    type: str


def _function_or_other(value: Any) -> str:
    return "(function)" if kind_of(value) in {"function", None} else "(other)"


_FUNCTION_OR_OTHER: Final = Discriminator(_function_or_other)
ToolItem = Annotated[
    Annotated[FunctionTool, Tag("(function)")] | Annotated[OtherTool, Tag("(other)")], _FUNCTION_OR_OTHER
]


class Named(Body):
    """The function that is to be called."""

    type: Literal["function"]
    name: Name


class Allowed(Body):
    """Some of the tools, in a mode."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[Named], Field(min_length=1, max_length=MAX_TOOLS)]


def _choice_of(value: Any) -> str:
    kind = kind_of(value)
    if isinstance(value, str):
        return "(word)"
    return (
        "(allowed)" if kind == "allowed_tools" else "(function)" if kind in {"function", None} else "(other)"
    )


ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("(word)")]
    | Annotated[Named, Tag("(function)")]
    | Annotated[Allowed, Tag("(allowed)")]
    | Annotated[OtherTool, Tag("(other)")],
    Discriminator(_choice_of),
]


class TextFormat(Body):
    """Free text, any JSON object, or JSON that fits a schema. `strict` is the only way here."""

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextConfig(Body):
    """How the text of the answer is formed."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningConfig(Body):
    """How long a model that thinks may think. Thoughts are told as they are, never summed up."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto"] | None = None
    mode: Literal["standard"] | None = None


class StreamOptions(Body):
    """`include_obfuscation` is tolerated: padding hides nothing inside one building's network."""

    include_obfuscation: bool | None = None


class PromptCacheOptions(Body):
    """Prefixes are shared by themselves here; without an answer there is nothing to prepare."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None
    comparison_response_id: str | None = None
    prewarm: Literal[False] | None = None


Includable = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]


class Prompting(Body):
    """What a prompt is made of: the same for an answer and for the count of its tokens."""

    input: Input
    instructions: str | None = None
    tools: Annotated[list[ToolItem], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningConfig | None = None
    text: TextConfig | None = None
    previous_response_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    # Known, and not implemented: only the value that means "off" is taken (OFF_VALUES).
    conversation: Any = None
    truncation: Any = None

    def refuse_what_is_not_here(self) -> None:
        """RequestError for the first item, tool or value that would need what is not here."""
        refuse_others(self.input)
        for at, tool in enumerate(self.tools or ()):
            if isinstance(tool, OtherTool):
                raise _no_such_tool(tool.type, f"tools[{at}].type")
        if isinstance(self.tool_choice, OtherTool):
            raise _no_such_tool(self.tool_choice.type, "tool_choice.type")

    @property
    def functions(self) -> list[FunctionTool]:
        """The tools. Only behind `refuse_what_is_not_here`."""
        return [each for each in self.tools or () if isinstance(each, FunctionTool)]

    def messages(self, earlier: Sequence[Item] = ()) -> tuple[ChatMessage, ...]:
        """The conversation, behind what was stored of it."""
        return conversation(self.instructions, earlier, self.input)

    def effort(self) -> Literal["", "none", "minimal", "low", "medium", "high"]:
        """How long to think, in core's words."""
        asked = self.reasoning.effort if self.reasoning is not None else None
        return EFFORTS[asked] if asked else ""

    def tooling(self) -> Tooling | None:
        """What may be called; None where nothing may. RequestError names what can not be offered."""
        offers = [
            Offer(each.name, each.description or "", each.parameters, f"tools[{at}].parameters")
            for at, each in enumerate(self.functions)
        ]
        return tooling(offers, self._wanted(), parallel=self.parallel_tool_calls is not False)

    def _wanted(self) -> Wanted:
        match self.tool_choice:
            case "none" | "auto" | "required" as word:
                return Wanted(word)
            case Named():
                return Wanted("named", named=self.tool_choice.name, param="tool_choice.name")
            case Allowed():
                names = tuple(each.name for each in self.tool_choice.tools)
                return Wanted(self.tool_choice.mode, allowed=names, param="tool_choice.tools")
        return AS_IT_LIKES

    def answer_schema(self) -> str:
        """The schema as text; empty: the answer is free. RequestError where it is missing or too large."""
        asked = self.text.format if self.text is not None else None
        if asked is None or asked.type == "text":
            return ""
        if asked.type == "json_object":
            return ANY_OBJECT
        for name, value in (("name", asked.name), ("schema", asked.schema_)):
            if value is None:
                raise RequestError(
                    f"missing required parameter: text.format.{name}",
                    code="missing_required_parameter",
                    param=f"text.format.{name}",
                )
        return schema_text(asked.schema_ or {}, param="text.format.schema")


class ResponseRequest(Prompting):
    """What a caller may send."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_output_tokens: Tokens | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    # Ours, as chats have them.
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    reproducible: bool | None = None
    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS)] | None = None
    store: bool | None = None
    # No effect on the answer but for the logprobs among `include`; on the record.
    include: Annotated[list[Includable], Field(max_length=16)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    metadata: Metadata | None = None
    prompt_cache_key: Short | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Short | None = None
    safety_identifier: Short | None = None
    service_tier: Short | None = None
    user: Short | None = None
    # Known, and not implemented: only the value that means "off" is taken (OFF_VALUES).
    access_programs: Any = None
    background: Any = None
    context_management: Any = None
    image: Any = None
    moderation: Any = None
    prompt: Any = None

    def refuse_unsupported(self) -> None:
        """RequestError for the first known parameter whose value would need what is not here."""
        refuse_unless_off(self, OFF_VALUES)
        self.refuse_what_is_not_here()
        refuse_options_alone(self.stream_options, is_stream=bool(self.stream))

    @property
    def wants_logprobs(self) -> bool:
        """Asked for by name, or by a number of alternatives."""
        return _LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    def sampling(self, model: ModelSpec | None) -> SamplingParams:
        """With the model's own defaults where the caller named no value."""
        return sampling_of(
            model,
            **drawing_of(self),
            max_tokens=self.max_output_tokens,
            top_logprobs=(self.top_logprobs or 0) if self.wants_logprobs else None,
        )

    def to_core(
        self, request_id: str, model: ModelSpec | None, earlier: Sequence[Item] = ()
    ) -> InferenceRequest:
        """The question, behind what was stored of the conversation."""
        return InferenceRequest(
            request_id=request_id,
            model=self.model,
            messages=self.messages(earlier),
            sampling=self.sampling(model),
            endpoint=Endpoint.RESPONSES,
            stream=bool(self.stream),
            schema=self.answer_schema(),
            tooling=self.tooling(),
            effort=self.effort(),
            timeout_seconds=self.timeout,
            reproducible=bool(self.reproducible),
            annotations=self._annotations(),
        )

    def _annotations(self) -> dict[str, object]:
        said = annotations_of(self, (*NO_EFFECT, "store", "previous_response_id"))
        if self.reasoning is not None:
            asked = self.reasoning.model_dump(exclude={"effort"}, exclude_none=True)
            said |= {"reasoning": asked} if asked else {}
        if self.text is not None and self.text.verbosity:
            said["verbosity"] = self.text.verbosity
        return said


def _no_such_tool(kind: str, param: str) -> RequestError:
    """A caller's own word is not repeated unless it is one of OpenAI's."""
    if kind in _BUILT_IN:
        return RequestError(
            f"the built-in tool {kind} is not supported by this appliance",
            code="unsupported_parameter",
            param=param,
            hint="only functions of your own can be offered",
        )
    return RequestError("no tool of this type is known", code="invalid_value", param=param)
