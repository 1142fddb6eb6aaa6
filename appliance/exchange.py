"""One request's life between the caller and the worker: what is waited for, sent, and left over."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Sequence

from appliance import dialects
from appliance.core import (
    Caller,
    CallPart,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ModelSpec,
    Part,
    Principal,
    ReasoningPart,
    Receipt,
    Started,
    TextPart,
    Usage,
)
from appliance.dialects import Reader
from appliance.errors import ApplianceError, InternalError
from appliance.tasks import Answered, Task, Vectors


class Exchange:
    """One admitted request, as the HTTP border sees it: events to read, and a way to say goodbye.

    Owner of every field: the task of `Inference._run`; the border calls only `gone`, `accepted`
    and `events`.
    """

    def __init__(
        self, request: InferenceRequest | Task, principal: Principal, caller: Caller, model: ModelSpec
    ) -> None:
        self.request = request
        self.principal = principal
        self.caller = caller
        self.model = model
        self.receipt: Receipt | None = None  # of the opening, once it is durable
        self.began_us = 0
        self.prompt_tokens = 0  # as the worker counted them when it took the prompt
        self.token_us = 0  # when the worker's last token came
        self.has_delivered = False
        self.is_gone = False
        self.wake = asyncio.Event()  # something changed: text, the end, or the caller left
        self.ended = asyncio.Event()  # nothing more will come from the worker, or nobody listens
        self._accepted: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._events: asyncio.Queue[Delta | Finished | ApplianceError] = asyncio.Queue()

    @property
    def opening(self) -> int:
        """The seq of the opening. Only behind its commit."""
        if self.receipt is None:
            raise InternalError("the exchange has no opening yet")
        return self.receipt.seq

    def gone(self) -> None:
        """The caller went away: stop decoding, and close the record with what was delivered."""
        self.is_gone = True
        self.ended.set()
        self.wake.set()

    async def accepted(self) -> Receipt:
        """Wait until the worker took the prompt; raise what stopped it before that."""
        return await asyncio.shield(self._accepted)

    async def events(self) -> AsyncIterator[Delta | Finished]:
        """Pieces whose record is durable, then `Finished`; raises the error that ended it."""
        while True:
            event = await self._events.get()
            if isinstance(event, ApplianceError):
                raise event
            yield event
            if isinstance(event, Finished):
                return

    def accept(self) -> None:
        if not self._accepted.done() and self.receipt is not None:
            self._accepted.set_result(self.receipt)

    def deliver(self, piece: Delta) -> None:
        self.has_delivered = True
        self._events.put_nowait(piece)

    def finish(self, finished: Finished) -> None:
        self.accept()
        self._events.put_nowait(finished)

    def fail(self, error: ApplianceError) -> None:
        if not self._accepted.done():
            self._accepted.set_exception(error)
            self._accepted.exception()  # retrieved: the border may have left already
        self._events.put_nowait(error)


class Answer:
    """What has come from the worker so far. Owner: the exchange's task and its pump.

    The record holds the text as the model wrote it; callers get the parts that its dialect reads there.
    """

    def __init__(self, request: InferenceRequest | Task, dialect: str) -> None:
        self.finished: Finished | None = None
        self.error: ApplianceError | None = None
        self.num_tokens = 0
        self.num_segments = 0
        self._is_chat = isinstance(request, InferenceRequest)
        self._num_choices = request.num_choices if isinstance(request, InferenceRequest) else 1
        self._calls = isinstance(request, InferenceRequest) and request.tooling is not None
        self._reads = self._is_chat and not getattr(request, "prompts", ())
        self._dialect = dialect
        self._started: dict[int, Started] = {}
        self._readers: dict[int, Reader] = {}
        self._callers: set[int] = set()  # choices that called a tool
        self._reasoning_tokens = 0
        self._pending: list[Delta] = []  # not yet sent
        self._unrecorded: list[Delta] = []  # in no segment yet
        self._texts: dict[int, list[str]] = {}
        self._result = b""

    def add(self, item: Started | Delta | Finished) -> None:
        match item:
            case Started():
                self._started[item.index] = item
            case Delta():
                self.num_tokens += item.num_tokens
                self._texts.setdefault(item.index, []).append(item.text)
                parts = self._parts(item.index, item.text)
                if parts and all(isinstance(each, ReasoningPart) for each in parts):
                    self._reasoning_tokens += item.num_tokens
                self._keep(dataclasses.replace(item, parts=parts))
            case Answered():
                self.finished = item
                result = item.result
                self._unrecorded.append(Delta(result.text, 0))
                self._result = result.data if isinstance(result, Vectors) else result.text.encode("utf-8")
            case Finished():
                for index, reader in self._readers.items():
                    self._keep(Delta("", 0, index, parts=self._seen(index, reader.finish())))
                self.finished = self._with_calls(item)

    @property
    def has_started(self) -> bool:
        """Whether the worker has taken the prompt of every choice."""
        return len(self._started) == self._num_choices

    @property
    def has_pieces(self) -> bool:
        """Whether there is anything to send: a token may be half a character, or held back."""
        return any(piece.text or piece.parts for piece in self._pending)

    @property
    def sha256(self) -> str:
        """Of the choices' texts one after the other in UTF-8, or of a task's result; hex."""
        whole = self._result or "".join("".join(self._texts[each]) for each in sorted(self._texts)).encode()
        return hashlib.sha256(whole).hexdigest()

    def take(self) -> list[Delta]:
        """Everything that waits to be sent, one piece for each choice."""
        pieces = _joined(self._pending)
        self._pending.clear()
        return pieces

    def take_unrecorded(self) -> list[Delta]:
        """Everything that no segment holds, one piece for each choice."""
        pieces = _joined(self._unrecorded)
        self._unrecorded.clear()
        return pieces

    def usage(self) -> Usage:
        if self.finished is not None:
            return self.finished.usage
        prompt = next((each.prompt_tokens for each in self._started.values()), 0)
        return Usage(prompt_tokens=prompt, completion_tokens=self.num_tokens)

    def _keep(self, piece: Delta) -> None:
        self._pending.append(piece)
        self._unrecorded.append(piece)

    def _parts(self, index: int, text: str) -> tuple[Part, ...]:
        if not self._reads:
            return (TextPart(text),) if text else ()
        if index not in self._readers:
            started = self._started.get(index)
            self._readers[index] = dialects.reader(
                self._dialect,
                calls=self._calls,
                begins_thinking=started is not None and started.begins_thinking,
            )
        return self._seen(index, self._readers[index].feed(text))

    def _seen(self, index: int, parts: Sequence[Part]) -> tuple[Part, ...]:
        if any(isinstance(each, CallPart) for each in parts):
            self._callers.add(index)
        return tuple(parts)

    def _with_calls(self, finished: Finished) -> Finished:
        """A stop behind a call is what callers know as `tool_calls`."""
        reasons = tuple(
            FinishReason.TOOL_CALLS if reason is FinishReason.STOP and index in self._callers else reason
            for index, reason in enumerate(finished.reasons)
        )
        usage = dataclasses.replace(finished.usage, reasoning_tokens=self._reasoning_tokens)
        return dataclasses.replace(finished, reason=reasons[0], reasons=reasons, usage=usage)


def _joined(pieces: Sequence[Delta]) -> list[Delta]:
    """One piece for each choice that has any, in the order of the choices."""
    by_choice: dict[int, list[Delta]] = {}
    for piece in pieces:
        by_choice.setdefault(piece.index, []).append(piece)
    return [
        Delta(
            text="".join(each.text for each in some),
            num_tokens=sum(each.num_tokens for each in some),
            index=index,
            logprobs=tuple(logprob for each in some for logprob in each.logprobs),
            parts=_merged([part for each in some for part in each.parts]),
        )
        for index, some in sorted(by_choice.items())
    ]


def _merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Neighbours of one kind as one part: a frame for each token would be a waste."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        match last, part:
            case TextPart(), TextPart():
                merged[-1] = TextPart(last.text + part.text)
            case ReasoningPart(), ReasoningPart():
                merged[-1] = ReasoningPart(last.text + part.text)
            case CallPart(), CallPart() if last.index == part.index:
                merged[-1] = CallPart(last.index, last.name, last.arguments + part.arguments)
            case _:
                merged.append(part)
    return tuple(merged)
