"""How fast a model computes on this machine, and what it takes: measured with a worker of its own.

Its questions are numbers that it counts up itself. Nobody asked them and they say nothing of anybody, so
there is nothing to record; prefixes are not shared, nothing is guessed ahead, and no answer is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.clock import Clock
from appliance.core import Delta, Finished, InferenceRequest, ModelSpec, Purpose, SamplingParams
from appliance.engine.messages import Ready
from appliance.engine.process import DEFAULT_COMMAND
from appliance.engine.supervisor import Engine
from appliance.engine.tunings import Fixed, TuningStore
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import InternalError, SetupError
from appliance.tasks import Answered, EmbedTask, RankTask, Task, TokenizeTask, Tokens
from appliance.terms import Endpoint

TOKENS_OF_A_WORD: Final = 4  # about: of a number
NUM_TEXTS: Final = 8  # that are embedded at once
SHORT_TOKENS: Final = 32  # of the prompts of several answers at once
MIN_WINDOW: Final = 8  # tokens: fewer say nothing about a speed


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. `streams`: answers at once, ascending; the first row of figures is of one."""

    streams: tuple[int, ...] = (1, 8)
    prompt_tokens: int = 512
    answer_tokens: int = 64


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one file. None: it ended its answers too early to tell, or has none."""

    backend: str
    load_us: int
    first_token_us: int | None  # of a prompt of `prompt_tokens`, nobody beside
    prompt_tokens: int
    prefill: float | None  # tokens a second; of one that only reads, of NUM_TEXTS texts together
    decode: tuple[float | None, ...]  # tokens a second, of all streams together; as `Sizes.streams`
    resident_bytes: int | None  # of the machine's memory, weights and context included


@dataclass(slots=True)
class _Heard:
    """One stream's tokens. Owner: its task."""

    sent_us: int
    tokens: list[tuple[int, int]]  # when they came, how many
    finished: Finished | None = None


async def measure(
    spec: ModelSpec,
    settings: EngineSettings,
    sizes: Sizes,
    *,
    clock: Clock,
    tunings: TuningStore | None = None,
    command: Sequence[str] = DEFAULT_COMMAND,
    step: Callable[[], None] = lambda: None,
) -> Figures:
    """Load, measure, unload. SetupError where the model does not load. `step` is called once a figure."""

    def engine(known: TuningStore | None) -> Engine:
        chosen = _settings(settings, sizes)
        return Engine(spec, chosen, clock=clock, on_event=lambda _event: None, command=command, tunings=known)

    async with _loaded(engine(tunings), settings.load_timeout_seconds) as (first, ready):
        if not ready.trials:
            step()
            return await _Measuring(first, ready, spec, sizes, clock, step).run()
    # Loading it took the time of finding its tuning, too: once more, with what was found.
    async with _loaded(engine(Fixed(ready.tuning)), settings.load_timeout_seconds) as (second, ready):
        step()
        return await _Measuring(second, ready, spec, sizes, clock, step).run()


@contextlib.asynccontextmanager
async def _loaded(engine: Engine, seconds: float) -> AsyncIterator[tuple[Engine, Ready]]:
    await engine.start()
    try:
        await engine.wait_ready(seconds)
        ready = engine.status.ready
        if not engine.is_ready or ready is None:
            raise SetupError(
                f"{engine.spec.id} does not load: {engine.status.last_error}", code="load_failed"
            )
        yield engine, ready
    finally:
        await engine.stop()


def num_steps(sizes: Sizes) -> int:
    """How often `step` is called for one model that answers in words."""
    return 2 + len(sizes.streams)


def rate(streams: Sequence[Sequence[tuple[int, int]]]) -> float | None:
    """Tokens a second while all of them were answering: from the last one's first to the first one's last.

    Each stream is when tokens came, in microseconds, and how many. None where that is too short to tell.
    """
    if not streams or not all(streams):
        return None
    begin = max(each[0][0] for each in streams)
    end = min(each[-1][0] for each in streams)
    # The token at `begin` is what the clock starts with; those behind it took the time.
    num_tokens = sum(count for each in streams for came, count in each if begin < came <= end)
    if end <= begin or num_tokens < MIN_WINDOW:
        return None
    return num_tokens / ((end - begin) / 1e6)


class _Measuring:
    """One model's worker, asked one thing after the other. Owner: the task of `measure`."""

    def __init__(
        self,
        engine: Engine,
        ready: Ready,
        spec: ModelSpec,
        sizes: Sizes,
        clock: Clock,
        step: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._ready = ready
        self._spec = spec
        self._sizes = sizes
        self._clock = clock
        self._step = step
        self._num_asked = 0

    async def run(self) -> Figures:
        if self._spec.purpose is not Purpose.CHAT:
            return await self._embeddings()
        await self._streams(
            1, SHORT_TOKENS, MIN_WINDOW
        )  # pages of the file come into memory, kernels warm up
        (alone,) = await self._streams(1, self._sizes.prompt_tokens, MIN_WINDOW)
        self._step()
        decode = []
        for count in self._sizes.streams:
            heard = await self._streams(count, SHORT_TOKENS, self._sizes.answer_tokens)
            decode.append(rate([each.tokens for each in heard]))
            self._step()
        timings = alone.finished.timings if alone.finished is not None else None
        num_read = alone.finished.usage.prompt_tokens if alone.finished is not None else 0
        return Figures(
            backend=self._ready.backend,
            load_us=self._ready.load_us,
            first_token_us=alone.tokens[0][0] - alone.sent_us if alone.tokens else None,
            prompt_tokens=num_read,
            prefill=num_read / (timings.prefill_us / 1e6) if timings and timings.prefill_us else None,
            decode=tuple(decode),
            resident_bytes=self._engine.worker_bytes,
        )

    async def _embeddings(self) -> Figures:
        """Texts in one request: there are no answers, and nothing comes before the whole."""
        texts = [await self._prompt(number, self._sizes.prompt_tokens) for number in range(NUM_TEXTS)]
        answered = [await self._read(request_id, texts) for request_id in ("warm", "measured")][-1]
        self._step()
        read, took_us = answered.usage.prompt_tokens, answered.timings.prefill_us
        return Figures(
            backend=self._ready.backend,
            load_us=self._ready.load_us,
            first_token_us=None,
            prompt_tokens=read,
            prefill=read / (took_us / 1e6) if took_us else None,
            decode=(None,) * len(self._sizes.streams),
            resident_bytes=self._engine.worker_bytes,
        )

    async def _read(self, request_id: str, texts: Sequence[tuple[int, ...]]) -> Answered:
        model = self._spec.id
        if self._spec.purpose is Purpose.EMBEDDING:
            return await self._perform(EmbedTask(request_id=request_id, model=model, inputs=tuple(texts)))
        # A ranking takes words only: about as many as the tokens make.
        size = self._sizes.prompt_tokens // TOKENS_OF_A_WORD
        documents = tuple(counting(number, size) for number in range(len(texts)))
        query = counting(len(texts), 1)
        return await self._perform(
            RankTask(request_id=request_id, model=model, query=query, documents=documents)
        )

    async def _prompt(self, number: int, num_tokens: int) -> tuple[int, ...]:
        """So many tokens that no other prompt begins with."""
        source = counting(number, num_tokens)
        task = TokenizeTask(request_id=f"tokens_{number}", model=self._spec.id, source=source)
        answered = await self._perform(task)
        if not isinstance(answered.result, Tokens):
            raise InternalError("a text was not made into tokens")
        return answered.result.ids[:num_tokens]

    async def _perform(self, task: Task) -> Answered:
        async with contextlib.aclosing(self._engine.perform(task)) as answers:
            async for answered in answers:
                return answered
        raise SetupError(f"{self._spec.id} gives no answer", code="load_failed")

    async def _streams(self, count: int, prompt_tokens: int, answer_tokens: int) -> list[_Heard]:
        return list(await asyncio.gather(*(self._ask(prompt_tokens, answer_tokens) for _ in range(count))))

    async def _ask(self, prompt_tokens: int, answer_tokens: int) -> _Heard:
        self._num_asked += 1
        request = InferenceRequest(
            request_id=f"bench_{self._num_asked}",
            model=self._spec.id,
            messages=(),
            prompts=(await self._prompt(self._num_asked, prompt_tokens),),
            endpoint=Endpoint.COMPLETIONS,
            sampling=SamplingParams(temperature=0.0, seed=1, max_tokens=answer_tokens),
            stream=True,
        )
        heard = _Heard(self._clock.monotonic_us(), [])
        async with contextlib.aclosing(self._engine.generate(request, tenant=request.request_id)) as items:
            async for item in items:
                if isinstance(item, Delta) and item.num_tokens:
                    heard.tokens.append((self._clock.monotonic_us(), item.num_tokens))
                elif isinstance(item, Finished):
                    heard.finished = item
        return heard


def counting(number: int, num_words: int) -> str:
    """A text that goes on by itself: a number of its own, then those behind it."""
    return " ".join(str(1000 * (number + 1) + at) for at in range(num_words))


def _settings(settings: EngineSettings, sizes: Sizes) -> EngineSettings:
    """Room for every stream, and nothing that would spare the work that is measured."""
    return msgspec.structs.replace(
        settings,
        n_seq_max=max(settings.n_seq_max, *sizes.streams),
        n_batch=max(settings.n_batch, max(sizes.streams) + 1),
        prefix_cache_cells=0,
        spill_mib=0,
        shared_prefixes=(),
        speculation=False,
    )
