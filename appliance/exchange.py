"""One request's life between the caller and the worker: what is waited for, sent, and left over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from appliance.core import (
    Caller,
    Delta,
    Finished,
    InferenceRequest,
    ModelSpec,
    Principal,
    Receipt,
    Started,
    Usage,
)
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


@dataclass(slots=True)
class Answer:
    """What has come from the worker so far. Owner: the exchange's task and its pump."""

    started: Started | None = None
    finished: Finished | None = None
    error: ApplianceError | None = None
    num_tokens: int = 0
    num_segments: int = 0
    pending: list[Delta] = field(default_factory=list, repr=False)  # not yet sent
    unrecorded: list[str] = field(default_factory=list, repr=False)  # in no segment yet
    digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def add(self, item: Started | Delta | Finished) -> None:
        match item:
            case Started():
                self.started = item
            case Delta():
                self.pending.append(item)
                self.unrecorded.append(item.text)
                self.num_tokens += item.num_tokens
                self.digest.update(item.text.encode("utf-8"))
            case Answered():
                self.finished = item
                result = item.result
                text = result.text
                self.unrecorded.append(text)
                self.digest.update(result.data if isinstance(result, Vectors) else text.encode("utf-8"))
            case Finished():
                self.finished = item

    @property
    def has_text(self) -> bool:
        """Whether there is anything to send: a token may be half a character, or held back."""
        return any(piece.text for piece in self.pending)

    def take(self) -> Delta:
        """Everything that waits to be sent, as one piece."""
        text = "".join(piece.text for piece in self.pending)
        tokens = sum(piece.num_tokens for piece in self.pending)
        self.pending.clear()
        return Delta(text=text, num_tokens=tokens)

    def take_unrecorded(self) -> str:
        """Everything that no segment holds."""
        text = "".join(self.unrecorded)
        self.unrecorded.clear()
        return text

    def usage(self) -> Usage:
        if self.finished is not None:
            return self.finished.usage
        prompt = self.started.prompt_tokens if self.started else 0
        return Usage(prompt_tokens=prompt, completion_tokens=self.num_tokens)
