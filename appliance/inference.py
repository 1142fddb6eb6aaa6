"""The sentence.

A request is **admitted**, its **opening is committed** to the audit log, its tokens are **scheduled
and decoded**, its **closing is committed**, and only then is it **finished** for the caller.

`Inference._run` reads as that sentence and is the only path from a question to an answer. It runs
in a task of its own: the caller going away is news to it, never its cancellation (law 6).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field

from appliance.audit import entry
from appliance.audit.entry import Entry
from appliance.audit.log import AuditLog
from appliance.catalog import Catalog
from appliance.clock import Clock
from appliance.config import Audit as AuditSettings
from appliance.config import Engine as EngineSettings
from appliance.core import (
    Caller,
    Delta,
    Finished,
    InferenceRequest,
    ModelSpec,
    Outcome,
    Principal,
    Receipt,
    Started,
    Timings,
    Usage,
)
from appliance.engine.supervisor import Engine
from appliance.errors import (
    ApplianceError,
    AuditUnavailable,
    InternalError,
    RequestError,
    Unavailable,
)
from appliance.log import get_logger
from appliance.metrics import Metrics
from appliance.policy.admission import Admit, Load, Refuse, decide

log = get_logger(__name__)


class Exchange:
    """One admitted request, as the HTTP border sees it: events to read, and a way to say goodbye.

    Owner of every field: the task of `Inference._run`; the border calls only `gone`, `accepted`
    and `events`.
    """

    def __init__(
        self, request: InferenceRequest, principal: Principal, caller: Caller, model: ModelSpec
    ) -> None:
        self.request = request
        self.principal = principal
        self.caller = caller
        self.model = model
        self.receipt: Receipt | None = None  # of the opening, once it is durable
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
class _Answer:
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
            case Finished():
                self.finished = item

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


class Inference:
    """Runs exchanges. Owner of `_running`: the event loop's thread."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        catalog: Catalog,
        engines: Mapping[str, Engine],
        engine_settings: EngineSettings,
        audit_settings: AuditSettings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._audit = audit
        self._catalog = catalog
        self._engines = engines
        self._max_in_flight = engine_settings.max_waiting + engine_settings.n_seq_max
        self._timeout_seconds = engine_settings.request_timeout_seconds
        self._strict = audit_settings.stream == "strict"
        self._segment_seconds = audit_settings.segment_ms / 1000
        self._clock = clock
        self._metrics = metrics
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, request: InferenceRequest, principal: Principal, caller: Caller) -> Exchange:
        """Admit a request and set its life going. Raises what refuses it; the border records that."""
        decision = self._decide(request)
        if isinstance(decision, Refuse):
            raise _refusal(decision)
        exchange = Exchange(request, principal, caller, decision.model)
        task = asyncio.create_task(self._run(exchange), name=f"exchange {request.request_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return exchange

    async def drain(self, grace_seconds: float) -> None:
        """Wait until every running exchange is closed, at most `grace_seconds`."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace_seconds)

    async def _run(self, exchange: Exchange) -> None:
        started_us = self._clock.monotonic_us()
        try:
            exchange.receipt = await self._audit.append(_opening(exchange))
            answer = await self._decode(exchange)
            outcome = _outcome(exchange, answer)
            tail = answer.take()
            await self._audit.append(_closing(exchange, answer, outcome))
        except AuditUnavailable as error:
            # Law 4: the log can not commit, so nothing more leaves; recovery closes the record.
            exchange.fail(error)
            self._metrics.request_failed_unrecorded()
            return
        if answer.finished is None or exchange.is_gone:
            exchange.fail(answer.error or Unavailable("the request was stopped", code="stopped"))
        else:
            if tail.text:
                exchange.deliver(tail)
            exchange.finish(answer.finished)
        self._metrics.request_closed(
            model=exchange.model.id,
            outcome=outcome,
            usage=answer.usage(),
            duration_us=self._clock.monotonic_us() - started_us,
        )

    async def _decode(self, exchange: Exchange) -> _Answer:
        """Tokens from the worker to the caller; in strict mode each piece by way of the record."""
        answer = _Answer()
        stream = self._engines[exchange.model.id].generate(exchange.request)
        pump = asyncio.create_task(self._pump(stream, answer, exchange))
        try:
            while not exchange.ended.is_set():
                await exchange.wake.wait()
                exchange.wake.clear()
                if answer.started is not None:
                    exchange.accept()
                if exchange.request.stream and answer.pending and not exchange.ended.is_set():
                    await self._send(exchange, answer)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        return answer

    async def _send(self, exchange: Exchange, answer: _Answer) -> None:
        """One piece on its way out. Law 2: in strict mode its segment is durable first."""
        piece = answer.take()
        if self._strict:
            await self._audit.append(_segment(exchange, answer, piece))
        exchange.deliver(piece)
        if self._strict:  # coalesce what comes in the next moment into one segment
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(exchange.ended.wait(), self._segment_seconds)

    async def _pump(
        self,
        stream: AsyncGenerator[Started | Delta | Finished, None],
        answer: _Answer,
        exchange: Exchange,
    ) -> None:
        """Move the worker's events into `answer`; closing the stream frees its sequence."""
        try:
            async with asyncio.timeout(self._timeout_seconds), contextlib.aclosing(stream) as items:
                async for item in items:
                    answer.add(item)
                    exchange.wake.set()
        except ApplianceError as error:
            answer.error = error
        except TimeoutError:
            answer.error = Unavailable("the answer took too long", code="request_timeout")
        except Exception as error:  # the edge of a request's life: a bug of ours must not hang it
            log.exception("generation_crashed", error=type(error).__name__)
            answer.error = InternalError("the request failed inside the appliance")
        finally:
            exchange.ended.set()
            exchange.wake.set()

    def _decide(self, request: InferenceRequest) -> Admit | Refuse:
        model = self._catalog.resolve(request.model)
        engine = self._engines.get(model.id) if model else None
        return decide(
            model if engine is not None else None,
            Load(
                audit_ready=self._audit.is_ready,
                model_ready=engine is not None and engine.is_ready,
                num_in_flight=len(self._running),
                max_in_flight=self._max_in_flight,
            ),
        )


def _opening(exchange: Exchange) -> Entry:
    return entry.opened(exchange.request, exchange.principal, exchange.caller, exchange.model)


def _segment(exchange: Exchange, answer: _Answer, piece: Delta) -> Entry:
    index = answer.num_segments
    answer.num_segments += 1
    answer.take_unrecorded()  # exactly the piece's text: nothing came between, we do not await
    return entry.segment(exchange.request.request_id, exchange.opening, index, piece.text, piece.num_tokens)


def _closing(exchange: Exchange, answer: _Answer, outcome: Outcome) -> Entry:
    return entry.closed(
        exchange.request.request_id,
        exchange.opening,
        model=exchange.model.id,
        outcome=outcome,
        code=answer.error.code if answer.error else "",
        usage=answer.usage(),
        timings=answer.finished.timings if answer.finished else Timings(),
        num_segments=answer.num_segments,
        output_sha256=answer.digest.hexdigest(),
        output=answer.take_unrecorded(),
    )


def _outcome(exchange: Exchange, answer: _Answer) -> Outcome:
    if exchange.is_gone:
        return Outcome.CLIENT_GONE
    if answer.finished is not None:
        return Outcome(answer.finished.reason)
    return Outcome.FAILED


def _refusal(decision: Refuse) -> ApplianceError:
    if decision.code == "audit_unavailable":
        return AuditUnavailable(decision.reason, retry_after_seconds=30)
    if decision.retry_after_seconds is not None:
        return Unavailable(
            decision.reason, code=decision.code, retry_after_seconds=decision.retry_after_seconds
        )
    return RequestError(decision.reason, code=decision.code, param=decision.param)
