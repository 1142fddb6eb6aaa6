"""Items of the Responses API as callers send them, and the conversation that they are.

OpenAI splits one turn of an assistant into several items (its thoughts, its text, each of its calls);
a chat template wants one turn. `conversation` puts them together again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag

from appliance.api.body import Body
from appliance.api.formats import Name
from appliance.core import ChatMessage, ToolCall
from appliance.errors import InternalError, RequestError

MAX_ITEMS: Final = 4096
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]
_TEXT, _LIST, _MESSAGE, _OTHER = "(text)", "(list)", "(message)", "(other)"


def kind_of(value: Any) -> str | None:
    """The `type` of an object on the wire, whether it is parsed already or not; "" where it is no text."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if kind is None or isinstance(kind, str) else ""


def _text_or_list(value: Any) -> str:
    return _LIST if isinstance(value, list | tuple) else _TEXT


TEXT_OR_LIST: Final = Discriminator(_text_or_list)


class InputText(Body):
    """A text; of an answer that is sent back, with what came along."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None


class Refusal(Body):
    """What a model said where it declined."""

    type: Literal["refusal"]
    refusal: str


class OtherPart(Body):
    """A part of any other kind: it is refused, by its name where that is known."""

    model_config = ConfigDict(extra="allow")

    type: str


def _part_of(value: Any) -> str:
    kind = kind_of(value)
    if kind == "refusal":
        return "(refusal)"
    return _TEXT if kind in {None, "input_text", "output_text"} else _OTHER


Part = Annotated[
    Annotated[InputText, Tag(_TEXT)]
    | Annotated[Refusal, Tag("(refusal)")]
    | Annotated[OtherPart, Tag(_OTHER)],
    Discriminator(_part_of),
]
Content = Annotated[
    Annotated[str, Tag(_TEXT)] | Annotated[list[Part], Field(min_length=1), Tag(_LIST)], TEXT_OR_LIST
]


class Message(Body):
    """One turn. `developer` is OpenAI's newer word for `system`."""

    type: Literal["message"] | None = None
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class FunctionCall(Body):
    """A call that the model made in an earlier answer."""

    type: Literal["function_call"]
    id: str | None = None
    call_id: CallId
    name: Name
    arguments: str
    status: Status | None = None
    caller: dict[str, Any] | None = None


class FunctionCallOutput(Body):
    """What the caller's function answered."""

    type: Literal["function_call_output"]
    id: str | None = None
    call_id: CallId
    output: Content
    name: str | None = None
    status: Status | None = None
    caller: dict[str, Any] | None = None


class ReasoningText(Body):
    """A piece of what a model thought."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class Reasoning(Body):
    """What a model thought in an earlier answer. Sealed thoughts of another provider open for nobody here."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: list[ReasoningText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: Annotated[str, StringConstraints(max_length=0)] | None = None
    status: Status | None = None


class OtherItem(Body):
    """An item of any other kind: it is refused, by its name where that is known."""

    model_config = ConfigDict(extra="allow")

    type: str


_FOREIGN: Final = frozenset(
    {
        "additional_tools",
        "apply_patch_call",
        "apply_patch_call_output",
        "code_interpreter_call",
        "compaction",
        "computer_call",
        "computer_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "file_search_call",
        "image_generation_call",
        "item_reference",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "shell_call",
        "shell_call_output",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
    }
)
_FOREIGN_PARTS: Final = frozenset({"computer_screenshot", "input_audio", "input_file", "input_image"})
_TAGS: Final = {
    None: _MESSAGE,
    "message": _MESSAGE,
    "function_call": "(call)",
    "function_call_output": "(output)",
    "reasoning": "(reasoning)",
}


def _item_of(value: Any) -> str:
    return _TAGS.get(kind_of(value), _OTHER)


Item = Annotated[
    Annotated[Message, Tag(_MESSAGE)]
    | Annotated[FunctionCall, Tag("(call)")]
    | Annotated[FunctionCallOutput, Tag("(output)")]
    | Annotated[Reasoning, Tag("(reasoning)")]
    | Annotated[OtherItem, Tag(_OTHER)],
    Discriminator(_item_of),
]
Input = Annotated[
    Annotated[str, Tag(_TEXT)] | Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS), Tag(_LIST)],
    TEXT_OR_LIST,
]


def refuse_others(items: str | Sequence[Item]) -> None:
    """RequestError for the first item or part of a kind that nothing here understands."""
    for at, item in enumerate(items if not isinstance(items, str) else ()):
        match item:
            case OtherItem():
                raise _refusal("items", item.type, _FOREIGN, f"input[{at}].type")
            case Message():
                field, content = "content", item.content
            case FunctionCallOutput():
                field, content = "output", item.output
            case _:
                continue
        for part_at, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, OtherPart):
                raise _refusal("parts", part.type, _FOREIGN_PARTS, f"input[{at}].{field}[{part_at}].type")


def conversation(
    instructions: str | None, earlier: Sequence[Item], asked: str | Sequence[Item]
) -> tuple[ChatMessage, ...]:
    """The turns of a conversation: instructions first, then what was before, then what is asked.

    RequestError where an output answers no call.
    """
    turns = _Turns()
    if instructions is not None:
        turns.say(ChatMessage("system", instructions))
    for item in earlier:
        turns.add(item, "previous_response_id")
    if isinstance(asked, str):
        turns.say(ChatMessage("user", asked))
    else:
        for at, item in enumerate(asked):
            turns.add(item, f"input[{at}].call_id")
    return turns.done()


class _Turns:
    """Turns as they come together; what an assistant said stays open until somebody else speaks."""

    def __init__(self) -> None:
        self._turns: list[ChatMessage] = []
        self._calls: list[ToolCall] = []
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._known: set[str] = set()  # calls that were made

    def say(self, turn: ChatMessage) -> None:
        self._close()
        self._turns.append(turn)

    def add(self, item: Item, param: str) -> None:
        match item:
            case Message(role="assistant"):
                if self._texts:
                    self._close()
                self._texts.append(text_of(item.content))
            case Message():
                role = "system" if item.role == "developer" else item.role
                self.say(ChatMessage(role, text_of(item.content)))
            case FunctionCall():
                self._known.add(item.call_id)
                self._calls.append(ToolCall(item.call_id, item.name, item.arguments))
            case FunctionCallOutput():
                if item.call_id not in self._known:
                    raise RequestError(
                        "no function call of the input has this call_id", code="invalid_value", param=param
                    )
                self.say(ChatMessage("tool", text_of(item.output), tool_call_id=item.call_id))
            case Reasoning():
                if self._texts or self._calls:
                    self._close()
                self._thoughts.append("".join(each.text for each in item.content or item.summary or ()))

    def done(self) -> tuple[ChatMessage, ...]:
        self._close()
        return tuple(self._turns)

    def _close(self) -> None:
        if self._texts or self._calls or self._thoughts:
            self._turns.append(
                ChatMessage(
                    "assistant",
                    "".join(self._texts),
                    tool_calls=tuple(self._calls),
                    reasoning="\n".join(self._thoughts),
                )
            )
        self._calls, self._texts, self._thoughts = [], [], []


def listed(asked: str | Sequence[Item], response_id: str) -> list[dict[str, Any]]:
    """Items as a client gets them back: whole, each with an id."""
    items = [Message(role="user", content=asked)] if isinstance(asked, str) else asked
    made = response_id.removeprefix("resp_")
    return [_listed(each, f"{made}i{at:03x}") for at, each in enumerate(items)]


def _listed(item: Item, made: str) -> dict[str, Any]:
    match item:
        case Message():
            of_model = item.role == "assistant"
            part: dict[str, Any] = {"type": "output_text" if of_model else "input_text"}
            part |= {"text": text_of(item.content)}
            part |= {"annotations": [], "logprobs": []} if of_model else {}
            told = {"type": "message", "role": item.role, "content": [part]}
            prefix = "msg"
        case FunctionCall():
            told = {
                "type": item.type,
                "call_id": item.call_id,
                "name": item.name,
                "arguments": item.arguments,
            }
            prefix = "fc"
        case FunctionCallOutput():
            told = {"type": item.type, "call_id": item.call_id, "output": text_of(item.output)}
            prefix = "fco"
        case Reasoning():
            thought = [{"type": "reasoning_text", "text": each.text} for each in item.content or ()]
            summary = [{"type": "summary_text", "text": each.text} for each in item.summary or ()]
            told = {"type": item.type, "summary": summary, "content": thought}
            prefix = "rs"
        case _:
            raise InternalError("an item of another kind was taken")
    return {"id": item.id or f"{prefix}_{made}", "status": item.status or "completed", **told}


def text_of(content: str | Sequence[Part]) -> str:
    """The text of a content."""
    if isinstance(content, str):
        return content
    return "".join(map(_text_of, content))


def _text_of(part: Part) -> str:
    match part:
        case InputText():
            return part.text
        case Refusal():
            return part.refusal
    return ""  # `refuse_others` has refused the rest


def _refusal(what: str, kind: str, known: Collection[str], param: str) -> RequestError:
    """A caller's own word is not repeated unless it is one of OpenAI's."""
    if kind in known:
        return RequestError(
            f"{what} of type {kind} are not supported by this appliance",
            code="unsupported_parameter",
            param=param,
        )
    return RequestError(f"no {what} of this type are known", code="invalid_value", param=param)
