"""The events of a streamed response, as the document of the API describes them.

`responses_telling` makes them; a test holds each one that it makes against these shapes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, RootModel

from appliance.api.logprobs import ContentLogprob
from appliance.api.responses_shapes import OutputItem, OutputText, ReasoningText, Response

Event = dict[str, Any]  # as it is made: one of the shapes below


class _Event(BaseModel):
    """What all have: numbers count from 0 without gaps."""

    model_config = ConfigDict(extra="forbid")

    sequence_number: int


class _OfItem(_Event):
    """What is told of an item while it is written. An item's content has one part, number 0."""

    item_id: str
    output_index: int


class Lifecycle(_Event):
    """The response as it stands: the first two events, and the last one."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
    ]
    response: Response


class ItemEvent(_Event):
    """An item begins, without content, or is done."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class PartEvent(_OfItem):
    """The part of a message or of thoughts begins, without text, or is done."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: int
    part: Annotated[OutputText | ReasoningText, Discriminator("type")]


class TextDelta(_OfItem):
    """More is said."""

    type: Literal["response.output_text.delta"]
    content_index: int
    delta: str
    logprobs: list[ContentLogprob]


class TextDone(_OfItem):
    """All that was said."""

    type: Literal["response.output_text.done"]
    content_index: int
    text: str
    logprobs: list[ContentLogprob]


class ReasoningDelta(_OfItem):
    """More is thought."""

    type: Literal["response.reasoning_text.delta"]
    content_index: int
    delta: str


class ReasoningDone(_OfItem):
    """All that was thought."""

    type: Literal["response.reasoning_text.done"]
    content_index: int
    text: str


class ArgumentsDelta(_OfItem):
    """More of a call's arguments."""

    type: Literal["response.function_call_arguments.delta"]
    delta: str


class ArgumentsDone(_OfItem):
    """A call's arguments, whole."""

    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


class ErrorEvent(_Event):
    """What stopped the answer, with this appliance's own code; `response.failed` follows."""

    type: Literal["error"]
    code: str
    message: str
    param: str | None


class ResponseEvent(
    RootModel[
        Annotated[
            Lifecycle
            | ItemEvent
            | PartEvent
            | TextDelta
            | TextDone
            | ReasoningDelta
            | ReasoningDone
            | ArgumentsDelta
            | ArgumentsDone
            | ErrorEvent,
            Discriminator("type"),
        ]
    ]
):
    """Any of them."""
