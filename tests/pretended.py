"""Engines without workers, and the hands that make them: a fleet over these loads in no time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from appliance.core import Adapter, ModelSpec
from appliance.engine.events import EngineEvent, ModelFailed, ModelLoaded, ModelUnloaded
from appliance.engine.messages import Ready, Setup, Tuning
from appliance.engine.status import EngineStatus, State
from appliance.engine.supervisor import Engine
from appliance.errors import ApplianceError, VerificationError

MIB = 1 << 20
READY = Ready(
    n_ctx=1,
    n_ctx_train=1,
    n_cells=1,
    n_seq_max=1,
    n_vocab=1,
    n_params=1,
    description="",
    backend="",
    library="",
    template_sha256="",
    load_us=1,
    can_share_prefixes=True,
    cell_bytes=1,
    tuning=Tuning(flash_attn=False, n_threads=1, n_threads_batch=1),
    setup=Setup(1, 1, 1, flash_attn=False),
)


class Pretended:
    """An engine that is ready as soon as its file was hashed, and `prepare` fails where that does."""

    worker_bytes = None

    def __init__(self, spec: ModelSpec, on_event: Callable[[EngineEvent], None], prepare: Any) -> None:
        self.spec = spec
        self._on_event = on_event
        self._prepare = prepare
        self._life: asyncio.Task[None] | None = None
        self.status = EngineStatus(State.STARTING, None, 0, "", None)

    @property
    def is_ready(self) -> bool:
        return self.status.state is State.READY

    async def start(self) -> None:
        self._life = asyncio.create_task(self._live())

    async def _live(self) -> None:
        try:
            await self._prepare()
        except ApplianceError as error:
            self.die(error.code, error.message)
            return
        self.status = EngineStatus(State.READY, READY, self.status.restarts, "", None)
        self._on_event(ModelLoaded(self.spec, READY))

    def die(self, code: str, says: str) -> None:
        self.status = EngineStatus(State.FAILED, None, self.status.restarts, says, None, code)
        self._on_event(ModelFailed(self.spec, code))

    async def stop(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        await asyncio.sleep(0.01)
        self.status = EngineStatus(State.STOPPED, None, 0, "", None)
        self._on_event(ModelUnloaded(self.spec))


@dataclass
class PretendedHands:
    """Every model needs ten MiB, or what `needs` says."""

    specs: dict[str, ModelSpec]
    pins: list[str]
    needs: dict[str, int] = field(default_factory=dict)
    altered: set[str] = field(default_factory=set)
    events: list[EngineEvent] = field(default_factory=list)
    given: list[Sequence[Adapter]] = field(default_factory=list)
    num_hashed: int = 0
    gate: asyncio.Event | None = None  # loads wait for it

    def make(
        self,
        spec: ModelSpec,
        *,
        on_event: Callable[[EngineEvent], None],
        prepare: Callable[[], Awaitable[None]],
        adapters: Callable[[], Sequence[Adapter]],
    ) -> Engine:
        async def prepared() -> None:
            await prepare()
            self.given.append(adapters())
            if self.gate is not None:
                await self.gate.wait()

        return cast("Engine", Pretended(spec, on_event, prepared))

    def needed_by(self, spec: ModelSpec) -> int:
        return self.needs.get(spec.id, 10) * MIB

    def verify(self, spec: ModelSpec, progress: Callable[[int, int], None]) -> None:
        progress(1, 2)
        self.num_hashed += 1
        if spec.id in self.altered:
            raise VerificationError("another file", code="model_altered")

    def pinned(self) -> list[ModelSpec]:
        return [self.specs[each] for each in self.pins]

    def on_event(self, event: EngineEvent) -> None:
        self.events.append(event)

    def said(self) -> list[tuple[str, str, str]]:
        """Each event's kind, model, and why."""
        return [
            (type(each).__name__.removeprefix("Model").lower(), each.model.id, _why(each))
            for each in self.events
        ]


def _why(event: EngineEvent) -> str:
    return event.code if isinstance(event, ModelFailed) else str(event.why)


class Heard:
    """Who queues questions."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, ApplianceError]] = []

    def changed(self, model_id: str) -> None:
        pass

    def failed(self, model_id: str, error: ApplianceError) -> None:
        self.failures.append((model_id, error))
