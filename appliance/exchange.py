"""One request's life between the caller and the worker: what is waited for, sent, and left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from appliance.core import (
    Caller,
    Delta,
    Finished,
    InferenceRequest,
    ModelSpec,
    Principal,
    Receipt,
)
from appliance.errors import ApplianceError, InternalError
from appliance.guarding import Guarded
from appliance.tasks import Answered, Task, Vectors

# What an event takes in memory besides its texts, and what a log-probability does: near enough for a bound.
_EVENT_BYTES, _LOGPROB_BYTES = 400, 200


class Exchange:
    """One admitted request, as the HTTP border sees it: events to read, and a way to say goodbye.

    Owner of every field: the task of `Inference._run`; the border calls only `gone`, `accepted`
    and `events`. A kept exchange was asked under an idempotency key: it goes on without its caller, and
    is told from its beginning to whoever asks again. Any other one has one reader, and what was read
    is let go.
    """

    def __init__(
        self,
        request: InferenceRequest | Task,
        principal: Principal,
        caller: Caller,
        model: ModelSpec,
        *,
        created: int = 0,
        is_kept: bool = False,
    ) -> None:
        self.request = request
        self.guarded = Guarded(request)
        self.principal = principal
        self.caller = caller
        self.model = model
        self.created = created  # Unix seconds: what answers say of their time, each time they are told
        self.completed = 0  # and of their end
        self.is_kept = is_kept
        self.receipt: Receipt | None = None  # of the opening, once it is durable
        self.began_us = 0
        self.prompt_tokens = 0  # as the worker counted them when it took the prompt
        self.token_us = 0  # when the worker's last token came
        self.closed_us: int | None = None  # when its end was told, on the monotonic clock
        self.has_delivered = False
        self.has_failed = False
        self.is_gone = False
        self.is_stopped = False  # the appliance itself ends
        self.num_bytes = 0  # about what its events take
        self.wake = asyncio.Event()  # something changed: text, the end, or the caller left
        self.ended = asyncio.Event()  # nothing more will come from the worker, or nobody listens
        self._accepted: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._told: list[Delta | Finished | ApplianceError] = []
        self._more = asyncio.Event()  # set when something is told, and replaced

    @property
    def opening(self) -> int:
        """The seq of the opening. Only behind its commit."""
        if self.receipt is None:
            raise InternalError("the exchange has no opening yet")
        return self.receipt.seq

    def hold_to(self, guarded: Guarded) -> None:
        """What holds for the question; its request is what the model is told."""
        self.guarded, self.request = guarded, guarded.request

    def gone(self) -> None:
        """The caller went away: stop decoding, and close the record with what was delivered.

        A kept exchange goes on, within its time: who asked will ask again.
        """
        if self.is_kept:
            return
        self.is_gone = True
        self.ended.set()
        self.wake.set()

    def stop(self) -> None:
        """The appliance ends: what is not written by now is not, kept or not."""
        self.is_stopped = True
        self.ended.set()
        self.wake.set()

    async def accepted(self) -> Receipt:
        """Wait until the worker took the prompt; raise what stopped it before that."""
        return await asyncio.shield(self._accepted)

    async def events(self) -> AsyncIterator[Delta | Finished]:
        """Pieces whose record is durable, then `Finished`; raises the error that ended it."""
        at = 0
        while True:
            while at == len(self._told):
                await self._more.wait()
            event = self._told[at]
            if self.is_kept:
                at += 1
            else:
                del self._told[0]
            if isinstance(event, ApplianceError):
                raise event
            yield event
            if isinstance(event, Finished):
                return

    def accept(self) -> None:
        """The worker took the prompt."""
        if not self._accepted.done() and self.receipt is not None:
            self._accepted.set_result(self.receipt)

    def deliver(self, piece: Delta) -> None:
        """A piece may leave the box."""
        self.has_delivered = True
        self._tell(piece)

    def finish(self, finished: Finished) -> None:
        """The end, behind the closing's commit."""
        self.accept()
        self._tell(finished)

    def fail(self, error: ApplianceError) -> None:
        """The end of an exchange that has no answer, or no whole one."""
        self.has_failed = True
        if not self._accepted.done():
            self._accepted.set_exception(error)
            self._accepted.exception()  # retrieved: the border may have left already
        self._tell(error)

    def _tell(self, event: Delta | Finished | ApplianceError) -> None:
        self._told.append(event)
        if self.is_kept:
            self.num_bytes += _size(event)
        self._more.set()
        self._more = asyncio.Event()


def _size(event: Delta | Finished | ApplianceError) -> int:
    match event:
        case Delta():
            num_logprobs = sum(1 + len(each.top) for each in event.logprobs)
            # The text stands there twice, as it was written and in parts; up to four bytes a character.
            return _EVENT_BYTES + 8 * len(event.text) + _LOGPROB_BYTES * num_logprobs
        case Answered(result=Vectors() as result):
            return _EVENT_BYTES + len(result.data)
        case Answered():
            return _EVENT_BYTES + 8 * len(event.result.text)
        case Finished(trace=trace) if trace is not None:
            return _EVENT_BYTES + 100 * len(trace.tokens)
        case _:
            return _EVENT_BYTES
