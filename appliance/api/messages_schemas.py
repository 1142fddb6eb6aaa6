"""The Anthropic wire shapes of `/v1/messages` and `/v1/messages/count_tokens`: what a caller may send.

The rule for parameters is the one of `schemas`. Block types, tools and thinking that only Anthropic's
own service has are refused by their place; `cache_control` is taken anywhere and changes nothing,
because prefixes are shared here without being asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from appliance.api.body import Body, ModelName, No, NonEmpty, refuse_unless_off
from appliance.api.formats import schema_text
from appliance.api.sampled import MAX_TIMEOUT_SECONDS, MAX_TOKENS, Stop
from appliance.api.tooling import Choice, Offer, Wanted, tooling
from appliance.api.turns import MAX_MESSAGES
from appliance.core import Tooling
from appliance.errors import RequestError

MAX_STOPS = 16
MIN_THINKING_TOKENS = 1024

# Sealed on the record, each under its own name; `metadata.user_id` goes there as `user`.
NO_EFFECT = (
    "cache_control",
    "diagnostics",
    "inference_geo",
    "service_tier",
    "speed",
    "user_profile_id",
    "workspace_id",
)
# Each with the values that mean "off"; anything else would change the answer.
OFF_VALUES: Mapping[str, tuple[object, ...]] = {
    "compaction": (),
    "container": (),
    "context_management": ({}, {"edits": []}),
    "fallbacks": ([],),
    "mcp_servers": ([],),
    "thread": (),
}

# How the types of tools begin that Anthropic's service runs, or that its models alone know how to use.
ANTHROPIC_TOOLS = (
    "advisor",
    "bash",
    "browser",
    "code_execution",
    "computer",
    "mcp",
    "memory",
    "text_editor",
    "tool_search",
    "web_fetch",
    "web_search",
)

_CHOICES: Mapping[str, Choice] = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}

Effort = Literal["", "none", "low", "medium", "high"]
_EFFORTS: Mapping[str, Effort] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_BUDGETS: tuple[tuple[int, Effort], ...] = ((2048, "low"), (4096, "medium"))  # below so many tokens

ToolId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class TextBlock(Body):
    """A piece of text."""

    type: Literal["text"]
    text: str
    cache_control: Any = None
    citations: Any = None


class ThinkingBlock(Body):
    """What the assistant had thought. Signatures are Anthropic's; ours are empty."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Body):
    """Thoughts that only Anthropic can read: they can not be told to a model here."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(Body):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: ToolId
    name: NonEmpty
    input: dict[str, Any]
    cache_control: Any = None
    caller: Any = None


def _as_blocks(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _kind(known: tuple[str, ...]) -> Discriminator:
    """Chooses a block's shape by its type. The steps that it adds to a path begin with `~`."""

    def tag_of(block: Any) -> str | None:
        kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
        return f"~{kind}" if kind in known else None

    return Discriminator(
        tag_of,
        custom_error_type="unsupported_block",
        custom_error_message=f"only these types of blocks are understood here: {', '.join(known)}",
    )


# A text stands for one block of it: one shape from here on, and exact paths in complaints.
TextBlocks = Annotated[
    list[Annotated[Annotated[TextBlock, Tag("~text")], _kind(("text",))]],
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[TextBlock]),
]


class ToolResultBlock(Body):
    """What came of a call."""

    type: Literal["tool_result"]
    tool_use_id: ToolId
    content: TextBlocks | None = None
    is_error: bool | None = None
    cache_control: Any = None


Block = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock
_TaggedBlock = Annotated[
    Annotated[TextBlock, Tag("~text")]
    | Annotated[ThinkingBlock, Tag("~thinking")]
    | Annotated[RedactedThinkingBlock, Tag("~redacted_thinking")]
    | Annotated[ToolUseBlock, Tag("~tool_use")]
    | Annotated[ToolResultBlock, Tag("~tool_result")],
    _kind(("text", "thinking", "redacted_thinking", "tool_use", "tool_result")),
]
Blocks = Annotated[list[_TaggedBlock], BeforeValidator(_as_blocks, json_schema_input_type=str | list[Block])]


class Turn(Body):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: Blocks


class ToolParam(Body):
    """A tool of the caller's own."""

    type: Literal["custom"] | None = None
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: Any = None
    eager_input_streaming: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: No | None = None
    input_examples: Annotated[list[Any], Field(max_length=0)] | None = None


def _own(tool: Any) -> Any:
    """Tools that Anthropic defines are refused by their name, before their other words are looked at."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if isinstance(kind, str) and kind != "custom":
        name = next((each for each in ANTHROPIC_TOOLS if kind.startswith(each)), "such")
        raise PydanticCustomError(
            "unsupported_tool",
            "{name} tools are Anthropic's; this appliance offers the model tools of your own only",
            {"name": name},
        )
    return tool


Tools = list[Annotated[ToolParam, BeforeValidator(_own, json_schema_input_type=ToolParam)]]


class ToolChoice(Body):
    """Whether a tool must be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: NonEmpty | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Body):
    """Whether the model is to think before it answers, and whether its thoughts are shown."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Field(ge=MIN_THINKING_TOKENS, le=MAX_TOKENS)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Body):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Body):
    """How much effort, and in which form."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(Body):
    """Who asks, in the caller's own words."""

    user_id: Annotated[str, StringConstraints(max_length=512)] | None = None


class Conversation(Body):
    """What both routes take."""

    model: ModelName
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: TextBlocks | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # what `output_config.format` was called in betas
    cache_control: Any = None
    metadata: Metadata | None = None
    # No effect on the answer; on the record.
    speed: str | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None
    # Known, and not implemented: only the value that means "off" is taken (OFF_VALUES).
    context_management: Any = None
    mcp_servers: Any = None

    def refuse_unsupported(self) -> None:
        """RequestError for the first known parameter whose value would need what is not here."""
        fields = type(self).model_fields
        refuse_unless_off(self, {name: off for name, off in OFF_VALUES.items() if name in fields})
        thinking = self.thinking
        if thinking is not None and thinking.type == "enabled" and thinking.budget_tokens is None:
            raise RequestError(
                "missing required parameter: thinking.budget_tokens",
                code="missing_required_parameter",
                param="thinking.budget_tokens",
            )

    def answer_schema(self) -> str:
        """The schema that the answer keeps to, as text; empty where it is free."""
        if self.output_config is not None and self.output_config.format is not None:
            return schema_text(self.output_config.format.schema_, param="output_config.format.schema")
        if self.output_format is not None:
            return schema_text(self.output_format.schema_, param="output_format.schema")
        return ""

    def tooling(self) -> Tooling | None:
        """What may be called; None where nothing may."""
        offers = [
            Offer(each.name, each.description or "", each.input_schema, f"tools[{index}].input_schema")
            for index, each in enumerate(self.tools or ())
        ]
        choice = self.tool_choice
        if choice is None:
            return tooling(offers)
        if choice.type == "tool" and choice.name is None:
            raise RequestError(
                "missing required parameter: tool_choice.name",
                code="missing_required_parameter",
                param="tool_choice.name",
            )
        wanted = Wanted(_CHOICES[choice.type], choice.name or "")
        return tooling(offers, wanted, parallel=not choice.disable_parallel_tool_use)

    def annotations(self) -> dict[str, object]:
        """What goes on the record besides."""
        given = {name: getattr(self, name, None) for name in NO_EFFECT}
        given["effort"] = self.output_config.effort if self.output_config else None
        given["user"] = self.metadata.user_id if self.metadata else None
        return {name: value for name, value in given.items() if value is not None}

    @property
    def shows_thinking(self) -> bool:
        """Whether the answer has blocks of thinking: only where they were asked for."""
        return self.thinking is not None and self.thinking.type != "disabled"

    def effort(self, *, thinks: bool, can_skip: bool) -> Effort:
        """How long the model may think; `thinks` and `can_skip` say what can be asked of it.

        A budget is a wish: it is read as an effort, and the answer's own limit is what holds. Where no
        thoughts are asked for the model is told to have none, if it can be told so.
        """
        if not self.shows_thinking:
            return "none" if can_skip else ""
        budget = self.thinking.budget_tokens if self.thinking else None
        if not thinks:
            if budget is None:  # the model decides by itself, and this one never thinks
                return ""
            raise RequestError(
                "this model does not think: leave thinking out",
                code="unsupported_parameter",
                param="thinking.type",
            )
        named = self.output_config.effort if self.output_config else None
        if named is not None:
            return _EFFORTS[named]
        if budget is None:
            return ""
        return next((effort for below, effort in _BUDGETS if budget < below), "high")


class MessagesRequest(Conversation):
    """What a caller may send to `/v1/messages`."""

    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    stream: bool | None = None
    stop_sequences: Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    # Ours, as in chats.
    reproducible: bool | None = None
    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS)] | None = None
    # No effect on the answer; on the record.
    diagnostics: Any = None
    inference_geo: str | None = None
    service_tier: str | None = None
    # Known, and not implemented: only the value that means "off" is taken (OFF_VALUES).
    compaction: Any = None
    container: Any = None
    fallbacks: Any = None
    thread: Any = None

    def refuse_unsupported(self) -> None:
        """RequestError for the first known parameter whose value would need what is not here."""
        super().refuse_unsupported()
        budget = self.thinking.budget_tokens if self.thinking else None
        if budget is not None and budget >= self.max_tokens:
            raise RequestError(
                "the budget for thinking must be smaller than max_tokens",
                code="invalid_value",
                param="thinking.budget_tokens",
            )


class CountTokensRequest(Conversation):
    """What a caller may send to `/v1/messages/count_tokens`."""
