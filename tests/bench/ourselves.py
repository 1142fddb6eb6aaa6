"""Everything that the bench knows of this package's own Python: the engine over a real worker."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from appliance.clock import SystemClock
from appliance.core import ChatMessage, Delta, Finished, InferenceRequest, SamplingParams
from appliance.engine.supervisor import Engine
from appliance.engine_settings import Engine as EngineSettings
from tests.bench import tuned
from tests.bench.peers import CELLS
from tests.bench.rooms import Messages

_READY_SECONDS = 60.0
_numbers = itertools.count()


@dataclass(frozen=True)
class Heard:
    """One answer, by the clock of this process."""

    text: str
    prompt_tokens: int
    ticks: tuple[tuple[float, int], ...]  # when a piece came, and its tokens

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces."""
        times = [at for at, _ in self.ticks]
        return [after - before for before, after in itertools.pairwise(times)]


@asynccontextmanager
async def engine(**settings: Any) -> AsyncIterator[Engine]:
    """Supervisor and worker as the gateway has them; `settings` are those of [engine]."""
    running = Engine(
        tuned.spec(),
        EngineSettings(**{"n_ctx": CELLS, **settings}),
        clock=SystemClock(),
        on_event=lambda _event: None,
        tunings=tuned.fixed(),
    )
    await running.start()
    try:
        if not await running.wait_ready(_READY_SECONDS):
            raise RuntimeError(f"the worker is not ready: {running.status.last_error}")
        yield running
    finally:
        await running.stop()


async def hear(running: Engine, messages: Messages, *, max_tokens: int, until: float | None = None) -> Heard:
    """One greedy answer; left in the middle where `until` (monotonic) comes first."""
    request = InferenceRequest(
        request_id=f"req_{next(_numbers)}",
        model="starter",
        messages=tuple(ChatMessage(each["role"], each["content"]) for each in messages),
        sampling=SamplingParams(temperature=0, max_tokens=max_tokens),
    )
    pieces: list[str] = []
    ticks: list[tuple[float, int]] = []
    prompt_tokens = 0
    async with aclosing(running.generate(request)) as items:
        async for item in items:
            match item:
                case Delta():
                    pieces.append(item.text)
                    ticks.append((time.monotonic(), item.num_tokens))
                case Finished():
                    prompt_tokens = item.usage.prompt_tokens
            if until is not None and time.monotonic() > until:
                break
    return Heard("".join(pieces), prompt_tokens, tuple(ticks))
