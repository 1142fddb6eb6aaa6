"""What the fleet does to the world: engines of this home's models, by this appliance's settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from appliance.catalog import DEFAULT_ALIAS, Catalog
from appliance.clock import Clock
from appliance.config import Home
from appliance.core import Adapter, ModelSpec
from appliance.engine import memory
from appliance.engine.events import EngineEvent, ModelLoaded, ModelUnloaded
from appliance.engine.supervisor import Engine
from appliance.engine.tunings import Tunings
from appliance.engine_settings import Engine as EngineSettings
from appliance.metrics import Metrics


@dataclass(frozen=True, slots=True)
class OwnHands:
    """Of a running gateway. `record` takes what goes onto the record."""

    home: Home
    settings: EngineSettings
    catalog: Catalog
    pinned_names: Callable[[], Sequence[str]]  # aliases that somebody pinned
    clock: Clock
    command: Sequence[str]
    metrics: Metrics
    record: Callable[[EngineEvent], None]

    def make(
        self,
        spec: ModelSpec,
        *,
        on_event: Callable[[EngineEvent], None],
        prepare: Callable[[], Awaitable[None]],
        adapters: Callable[[], Sequence[Adapter]],
    ) -> Engine:
        """An engine that is not started."""
        return Engine(
            spec,
            self.settings,
            clock=self.clock,
            on_event=on_event,
            command=self.command,
            tunings=Tunings(self.home.tuning, n_gpu_layers=self.settings.n_gpu_layers),
            prepare=prepare,
            adapters=adapters,
        )

    def needed_by(self, spec: ModelSpec) -> int:
        """Bytes that it is reckoned to hold."""
        return memory.needed_by(spec, self.settings)

    def verify(self, spec: ModelSpec, progress: Callable[[int, int], None]) -> None:
        """Hash what lies in the store, and let workers of another user read it."""
        self.catalog.verify(spec, progress)
        if self.settings.worker_socket:
            self.catalog.open_to_workers(spec, self.home)

    def pinned(self) -> list[ModelSpec]:
        """The default alias's model, those of pinned aliases, then `engine.pinned`; what is not in the store
        is passed over.
        """
        names = (DEFAULT_ALIAS, *self.pinned_names(), *self.settings.pinned)
        named = [self.catalog.resolve(name) for name in names]
        found = {spec.id: spec for spec in named if spec is not None and spec.path.exists()}
        return list(found.values())

    def on_event(self, event: EngineEvent) -> None:
        """For the record, and counted."""
        match event:
            case ModelLoaded():
                self.metrics.models.loaded(event.model.id, event.why)
            case ModelUnloaded():
                self.metrics.models.unloaded(event.model.id, event.why)
        self.record(event)
