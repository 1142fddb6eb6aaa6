"""From the pieces of an answer to the items of a response, and the events that tell of them.

One machine for both ways to answer: a stream sends its events, a whole answer only its items. Order
and fields of the events are OpenAI's: an item is added, its content part is added, deltas come, and
all of that is done again in the opposite order. Numbers of events count from 0 without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal

from appliance.api.attribution import Tokens
from appliance.api.logprobs import ContentLogprob, chat_logprobs
from appliance.api.responses_events import Event
from appliance.api.responses_items import Status
from appliance.api.responses_shapes import (
    FunctionCallItem,
    Incomplete,
    OutputItem,
    OutputMessage,
    OutputText,
    Problem,
    ReasoningItem,
    ReasoningText,
    Response,
    Usage,
)
from appliance.core import (
    CallPart,
    Delta,
    Finished,
    FinishReason,
    Part,
    ReasoningPart,
    TextPart,
)
from appliance.errors import ApplianceError, InternalError
from appliance.statuses import status_of

_INCOMPLETE: Final[dict[FinishReason, Literal["max_output_tokens", "content_filter"]]] = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}
_PREFIX: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


def frame(event: Event) -> bytes:
    """One server-sent event; its name stands on a line of its own and in the data."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


@dataclass(slots=True)
class _Open:
    """The item that is being written."""

    kind: Literal["message", "reasoning", "function_call"]
    id: str
    index: int  # among the response's items
    text: str = field(default="", repr=False)  # said, thought, or the call's arguments
    logprobs: list[ContentLogprob] = field(default_factory=list, repr=False)
    name: str = ""
    call: int = 0  # its number among the calls
    call_id: str = ""

    def item(self, status: Status) -> OutputItem:
        """As it stands; without content while it is in progress."""
        begun = status == "in_progress"
        match self.kind:
            case "message":
                said = [] if begun else [OutputText(text=self.text, logprobs=self.logprobs)]
                return OutputMessage(id=self.id, status=status, content=said)
            case "reasoning":
                thought = [] if begun else [ReasoningText(text=self.text)]
                return ReasoningItem(id=self.id, status=status, content=thought)
            case "function_call":
                return FunctionCallItem(
                    id=self.id, status=status, call_id=self.call_id, name=self.name, arguments=self.text
                )

    def part(self, text: str) -> OutputText | ReasoningText:
        """Its one content part, at its beginning (with no text) and at its end."""
        if self.kind == "reasoning":
            return ReasoningText(text=text)
        return OutputText(text=text, logprobs=self.logprobs)


class Telling:
    """One response as it comes to be. Owner: the task of the request."""

    def __init__(self, response: Response, call_id: Callable[[int], str]) -> None:
        self._response = response
        self._call_id = call_id
        self._open: _Open | None = None
        self._number = 0
        self._blank = ""  # white space that nothing has followed yet
        self._tokens = Tokens()

    @property
    def response(self) -> Response:
        """The response as it stands now."""
        return self._response

    def begin(self) -> Iterator[Event]:
        """It is there, and somebody works on it."""
        yield self._whole("response.created")
        yield self._whole("response.in_progress")

    def add(self, piece: Delta) -> Iterator[Event]:
        """What a piece adds."""
        self._tokens.add(piece.logprobs)
        for part in piece.parts:
            yield from self._part(part)

    def end(self, finished: Finished) -> Iterator[Event]:
        """The last item is done."""
        if self._open is None:  # nothing at all was said, or white space: that is an answer too
            yield from self._say(self._blank)
        yield from self._close("incomplete" if finished.reason in _INCOMPLETE else "completed")

    def finished(self, finished: Finished, now: int) -> Response:
        """The response as it will be told last. Behind `end`; `now` is in Unix seconds."""
        short = _INCOMPLETE.get(finished.reason)
        return self._response.model_copy(
            update={
                "status": "incomplete" if short else "completed",
                "incomplete_details": Incomplete(reason=short) if short else None,
                "completed_at": None if short else now,
                "usage": Usage.of(finished.usage),
            }
        )

    def close(self, response: Response) -> Event:
        """The last event."""
        self._response = response
        return self._whole(f"response.{response.status}")

    def fail(self, error: ApplianceError) -> Iterator[Event]:
        """What stopped it, exactly, and then the response in the few codes that typed clients take."""
        yield self._event("error", code=error.code, message=error.message, param=error.param)
        code: Literal["server_error", "invalid_prompt"] = (
            "server_error" if status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_prompt"
        )
        output = list(self._response.output)
        if self._open is not None:
            output.append(self._open.item("incomplete"))
        self._response = self._response.model_copy(
            update={
                "status": "failed",
                "error": Problem(code=code, message=error.message),
                "output": output,
            }
        )
        yield self._whole("response.failed")

    def _part(self, part: Part) -> Iterator[Event]:
        match part:
            case TextPart():
                yield from self._text(part.text)
            case ReasoningPart():
                self._tokens.take(part.text)
                yield from self._turn_to("reasoning")
                yield from self._more("response.reasoning_text.delta", part.text, content_index=0)
            case CallPart():
                yield from self._call(part)

    def _text(self, text: str) -> Iterator[Event]:
        """White space between two calls, or before one, is the model's punctuation: nothing was said."""
        self._blank += text
        is_message = self._open is not None and self._open.kind == "message"
        if is_message or self._blank.strip():
            yield from self._say(self._blank)

    def _say(self, text: str) -> Iterator[Event]:
        yield from self._turn_to("message")
        self._blank = ""
        if text:
            logprobs = chat_logprobs(self._tokens.take(text)).content
            self._known.logprobs += logprobs
            yield from self._more(
                "response.output_text.delta", text, content_index=0, logprobs=_dumped(logprobs)
            )

    def _call(self, part: CallPart) -> Iterator[Event]:
        current = self._open
        if current is None or current.kind != "function_call" or current.call != part.index:
            yield from self._close("completed")
            self._open = self._new("function_call")
            self._open.name, self._open.call = part.name, part.index
            self._open.call_id = self._call_id(part.index)
            yield self._added()
        if part.arguments:
            yield from self._more("response.function_call_arguments.delta", part.arguments)

    def _turn_to(self, kind: Literal["message", "reasoning"]) -> Iterator[Event]:
        """From here on it is an item of this kind."""
        if self._open is not None and self._open.kind == kind:
            return
        yield from self._close("completed")
        self._open = self._new(kind)
        yield self._added()
        yield self._of_part("response.content_part.added", "")

    def _more(self, name: str, text: str, **fields: Any) -> Iterator[Event]:
        self._known.text += text
        yield self._of_item(name, delta=text, **fields)

    def _close(self, status: Status) -> Iterator[Event]:
        done = self._open
        self._blank = ""
        if done is None:
            return
        match done.kind:
            case "message":
                yield self._of_item("response.output_text.done", content_index=0, text=done.text,
                                    logprobs=_dumped(done.logprobs))  # fmt: skip
            case "reasoning":
                yield self._of_item("response.reasoning_text.done", content_index=0, text=done.text)
            case "function_call":
                yield self._of_item(
                    "response.function_call_arguments.done", name=done.name, arguments=done.text
                )
        if done.kind != "function_call":
            yield self._of_part("response.content_part.done", done.text)
        item = done.item(status)
        yield self._event("response.output_item.done", output_index=done.index, item=item.model_dump())
        self._response = self._response.model_copy(update={"output": [*self._response.output, item]})
        self._open = None

    def _new(self, kind: Literal["message", "reasoning", "function_call"]) -> _Open:
        index = len(self._response.output)
        name = self._response.id.removeprefix("resp_")
        return _Open(kind, f"{_PREFIX[kind]}_{name}{index:02x}", index)

    def _added(self) -> Event:
        item = self._known.item("in_progress")
        return self._event(
            "response.output_item.added", output_index=self._known.index, item=item.model_dump()
        )

    def _of_part(self, name: str, text: str) -> Event:
        part = self._known.part(text)
        return self._of_item(name, content_index=0, part=part.model_dump())

    def _of_item(self, kind: str, /, **fields: Any) -> Event:
        return self._event(kind, item_id=self._known.id, output_index=self._known.index, **fields)

    def _whole(self, name: str) -> Event:
        return self._event(name, response=self._response.model_dump())

    def _event(self, kind: str, /, **fields: Any) -> Event:
        number = self._number
        self._number += 1
        return {"type": kind, "sequence_number": number, **fields}

    @property
    def _known(self) -> _Open:
        if self._open is None:
            raise InternalError("an item is told of that was not begun")
        return self._open


def _dumped(logprobs: Sequence[ContentLogprob]) -> list[dict[str, Any]]:
    return [each.model_dump() for each in logprobs]
