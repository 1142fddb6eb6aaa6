"""The sentence.

A request is **admitted**, its **opening is committed** to the audit log, its tokens are **scheduled
and decoded**, its **closing is committed**, and only then is it **finished** for the caller.

`Inference._run` reads as that sentence and is the only path from a question to an answer. It runs
in a task of its own: the caller going away is news to it, never its cancellation (law 6).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
from collections.abc import AsyncGenerator

from appliance import entries
from appliance.admitting import Admitting, Place
from appliance.answer import Answer
from appliance.audit.log import AuditLog
from appliance.catalog import Catalog
from appliance.clock import Clock
from appliance.config import Audit as AuditSettings
from appliance.core import (
    Caller,
    Delta,
    Finished,
    InferenceRequest,
    ModelSpec,
    Principal,
    Started,
)
from appliance.engine.supervisor import Engine
from appliance.engine.wire import SEEDS
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import (
    ApplianceError,
    AuditUnavailable,
    InternalError,
    RequestError,
    Unavailable,
)
from appliance.exchange import Exchange
from appliance.fleet import Fleet
from appliance.guarding import Guarded, Guarding
from appliance.log import get_logger
from appliance.metrics import Metrics
from appliance.policy import permits
from appliance.policy.admission import Load, Refuse, decide, suits
from appliance.standing import Standing
from appliance.tasks import Task, endpoint_of

log = get_logger(__name__)


class Inference:
    """Runs exchanges. Owner of `_running`: the event loop's thread."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        catalog: Catalog,
        fleet: Fleet,
        admitting: Admitting,
        guarding: Guarding,
        engine_settings: EngineSettings,
        audit_settings: AuditSettings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._audit = audit
        self._catalog = catalog
        self._fleet = fleet
        self.admitting = admitting
        self._guarding = guarding
        self._timeout_seconds = engine_settings.request_timeout_seconds
        self._strict = audit_settings.stream == "strict"
        self._segment_seconds = audit_settings.segment_ms / 1000
        self._clock = clock
        self._metrics = metrics
        self._running: dict[asyncio.Task[None], Exchange] = {}

    def begin(
        self,
        request: InferenceRequest | Task,
        principal: Principal,
        caller: Caller,
        *,
        is_kept: bool = False,
    ) -> Exchange:
        """Admit a request and set its life going. Raises what refuses it; the border records that.

        `is_kept`: it goes on without its caller, and is told again to whoever asks again.
        """
        permits.require(principal.terms, self._catalog.resolve(request.model), request)
        model = self._model_for(request)
        if isinstance(request, InferenceRequest) and request.reproducible:
            request = self._reproducible(request)
        guarded = self._guarding.begin(request, principal)
        place = self.admitting.enter(guarded.request, principal, model)
        created = self._clock.now_us() // 1_000_000
        exchange = Exchange(request, principal, caller, model, created=created, is_kept=is_kept)
        exchange.hold_to(guarded)
        task = asyncio.create_task(self._run(exchange, place), name=f"exchange {request.request_id}")
        self._running[task] = exchange
        task.add_done_callback(lambda ended: self._after(exchange, place, ended))
        return exchange

    def _reproducible(self, request: InferenceRequest) -> InferenceRequest:
        """With a seed where the caller named none; the setup is the worker's that answers.

        RequestError for several choices: each would have to be computed alone, with a trace of its own.
        """
        if request.num_choices != 1:
            raise RequestError(
                "a reproducible request has one choice",
                code="invalid_value",
                param="n" if request.n != 1 else "prompt",
            )
        sampling = request.sampling
        if sampling.seed is None:
            sampling = dataclasses.replace(sampling, seed=secrets.randbelow(SEEDS))
        return dataclasses.replace(request, sampling=sampling)

    async def drain(self, grace_seconds: float) -> None:
        """Wait until every running exchange is closed, at most `grace_seconds`."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace_seconds)

    async def stop(self, grace_seconds: float) -> None:
        """Admit nothing more, refuse who waits, and let who runs end in time; then their answers are cut
        off, and closed as failed with `stopped`.
        """
        self.admitting.stop()
        await self.drain(grace_seconds)
        for exchange in self._running.values():
            exchange.stop()

    async def _run(self, exchange: Exchange, place: Place) -> None:
        exchange.began_us = self._clock.monotonic_us()
        try:
            await self.admitting.wait(place, exchange.ended)
            exchange.hold_to(self._with_setup(exchange))
        except ApplianceError as error:
            exchange.fail(error)  # it has no opening: the border records a refusal
            return
        try:
            exchange.hold_to(await self._guarding.check(exchange.guarded))
            exchange.receipt = await self._audit.append(entries.opening(exchange))
            answer = await self._decode(exchange, place)
            outcome = entries.outcome(exchange, answer)
            tail = answer.take()
            await self._audit.append(entries.closing(exchange, answer, outcome))
        except AuditUnavailable as error:
            # Law 4: the log can not commit, so nothing more leaves; recovery closes the record.
            exchange.closed_us = self._clock.monotonic_us()
            exchange.fail(error)
            self._metrics.request_failed_unrecorded()
            return
        self._guarding.count("output", answer.placed)
        exchange.closed_us = self._clock.monotonic_us()
        exchange.completed = self._clock.now_us() // 1_000_000
        if answer.finished is None or exchange.is_gone:
            exchange.fail(answer.error or _stopped())
        else:
            for piece in tail:
                self._deliver(exchange, piece)
            exchange.finish(answer.finished)
        self._metrics.request_closed(
            model=exchange.model.id,
            endpoint=endpoint_of(exchange.request),
            outcome=outcome,
            usage=answer.usage(),
            duration_us=exchange.closed_us - exchange.began_us,
        )

    def _after(self, exchange: Exchange, place: Place, task: asyncio.Task[None]) -> None:
        """A bug of ours must not leave the caller waiting; recovery closes the record."""
        del self._running[task]
        self.admitting.leave(place, num_tokens=0)  # where it never came to the worker
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("exchange_crashed", exc_info=error)
            exchange.fail(InternalError("the request failed inside the appliance"))

    async def _decode(self, exchange: Exchange, place: Place) -> Answer:
        """Tokens from the worker to the caller; in strict mode each piece by way of the record."""
        guarded = exchange.guarded
        answer = Answer(exchange.request, self._engine_of(exchange).dialect, guarded.output)
        if guarded.refusal is not None:
            answer.error = guarded.refusal
            return answer
        stream = self._stream(exchange)
        pump = asyncio.create_task(self._pump(stream, answer, exchange, place))
        try:
            while not exchange.ended.is_set():
                await exchange.wake.wait()
                exchange.wake.clear()
                if answer.has_started:
                    exchange.prompt_tokens = answer.usage().prompt_tokens
                    exchange.accept()
                if exchange.request.stream and answer.has_pieces and not exchange.ended.is_set():
                    await self._send(exchange, answer)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        if exchange.is_stopped and answer.finished is None and answer.error is None:
            answer.error = _stopped()
        return answer

    def _stream(self, exchange: Exchange) -> AsyncGenerator[Started | Delta | Finished, None]:
        engine = self._engine_of(exchange)
        if isinstance(exchange.request, InferenceRequest):
            return engine.generate(
                exchange.request, tenant=exchange.principal.tenant, adapter=exchange.model.adapter
            )
        return engine.perform(exchange.request)

    def _engine_of(self, exchange: Exchange) -> Engine:
        """Of a model that has given this question its turn: it stays until the worker is done with it."""
        engine = self._fleet.engine_of(exchange.model)
        if engine is None:
            raise InternalError("the model has left while it was leased")
        return engine

    def _with_setup(self, exchange: Exchange) -> Guarded:
        """What the model is told; a reproducible question names the setup of the worker that is ready."""
        request = exchange.guarded.request
        if not isinstance(request, InferenceRequest) or not request.reproducible:
            return exchange.guarded
        setup = self._engine_of(exchange).setup
        if setup is None:
            raise Unavailable("the model is restarting", code="model_not_ready", retry_after_seconds=2)
        return dataclasses.replace(exchange.guarded, request=dataclasses.replace(request, setup=setup))

    async def _send(self, exchange: Exchange, answer: Answer) -> None:
        """What waits, on its way out. Law 2: in strict mode its segments are durable first.

        Law 4: in final mode no segment would fail, so the latch is looked at.
        """
        pieces = answer.take(said_only=True)
        if self._strict:
            # Of the same choices, so exactly these pieces: nothing came between, we do not await.
            said = answer.take_unrecorded([each.index for each in pieces])
            segments = [entries.segment(exchange, answer, each) for each in said]
            await asyncio.gather(*map(self._audit.append, segments))  # one commit for all of them
        elif not self._audit.is_ready:
            raise AuditUnavailable("the audit log can not commit", retry_after_seconds=30)
        for piece in pieces:
            self._deliver(exchange, piece)
        if self._strict:  # coalesce what comes in the next moment into one segment
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(exchange.ended.wait(), self._segment_seconds)

    def _deliver(self, exchange: Exchange, piece: Delta) -> None:
        if not exchange.has_delivered:
            waited_us = self._clock.monotonic_us() - exchange.began_us
            self._metrics.first_piece(model=exchange.model.id, duration_us=waited_us)
        exchange.deliver(piece)

    async def _pump(
        self,
        stream: AsyncGenerator[Started | Delta | Finished, None],
        answer: Answer,
        exchange: Exchange,
        place: Place,
    ) -> None:
        """Move the worker's events into `answer`; closing the stream frees its sequences, and its place."""
        seconds, code = self._limit_of(exchange)
        try:
            async with (
                asyncio.timeout(seconds),
                contextlib.aclosing(stream) as items,
            ):
                async for item in items:
                    self._observe(exchange, item)
                    answer.add(item)
                    if answer.is_cut:  # by a rule: the worker need not go on
                        break
                    if exchange.request.stream or isinstance(item, Started):
                        exchange.wake.set()
        except ApplianceError as error:
            answer.error = error
        except TimeoutError:
            answer.error = Unavailable("the answer took too long", code=code)
        except Exception as error:  # the edge of a request's life: a bug of ours must not hang it
            log.exception("generation_crashed", error=type(error).__name__)
            answer.error = InternalError("the request failed inside the appliance")
        finally:
            self.admitting.leave(place, num_tokens=answer.usage().total_tokens)
            exchange.ended.set()
            exchange.wake.set()

    def _limit_of(self, exchange: Exchange) -> tuple[float, str]:
        """How long an answer may take from here on, and what its end is called then.

        The caller's own limit (`timeout`) holds within the appliance's (`request_timeout`); who waits for a
        turn has used some of it.
        """
        request = exchange.request
        own = request.timeout_seconds if isinstance(request, InferenceRequest) else None
        if own is None or own >= self._timeout_seconds:
            return self._timeout_seconds, "request_timeout"
        return own - (self._clock.monotonic_us() - exchange.began_us) / 1e6, "timeout"

    def _observe(self, exchange: Exchange, item: Started | Delta | Finished) -> None:
        if not isinstance(item, Delta) or not item.num_tokens:
            return
        now_us = self._clock.monotonic_us()
        model = exchange.model.id
        if exchange.token_us == 0:
            self._metrics.first_token(model=model, duration_us=now_us - exchange.began_us)
        else:
            gap_us = now_us - exchange.token_us
            self._metrics.next_tokens(model=model, duration_us=gap_us, num_tokens=item.num_tokens)
        exchange.token_us = now_us

    def _model_for(self, request: InferenceRequest | Task) -> ModelSpec:
        """The model that can answer this now, whoever asks. Raises what speaks against it."""
        model = self._catalog.resolve(request.model)
        if model is not None and not self._fleet.is_known(model):
            model = None
        standing = self._fleet.standing(model) if model is not None else Standing("unloaded")
        decision = decide(
            model,
            Load(
                stopping=self.admitting.is_stopping,
                audit_ready=self._audit.is_ready,
                disk_low=self._audit.is_low,
                model_ready=standing.can_be_asked,
                suits=model is None or suits(model, request),
                model_again_seconds=standing.retry_after_seconds,
                too_large=standing.says if standing.state == "too_large" else "",
                max_inside=self.admitting.max_inside,
                stopped_for_seconds=self.admitting.grace_seconds,
            ),
            num_asked=request.num_choices if isinstance(request, InferenceRequest) else 1,
        )
        if isinstance(decision, Refuse):
            raise _refusal(decision)
        return decision.model


def _refusal(decision: Refuse) -> ApplianceError:
    if decision.code == "audit_unavailable":
        return AuditUnavailable(decision.reason, retry_after_seconds=30)
    if decision.retry_after_seconds is not None:
        return Unavailable(
            decision.reason, code=decision.code, retry_after_seconds=decision.retry_after_seconds
        )
    return RequestError(decision.reason, code=decision.code, param=decision.param)


def _stopped() -> Unavailable:
    return Unavailable("the request was stopped", code="stopped")
