"""A model in memory as the fleet keeps it; what the fleet can do to the world, and whom it tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.core import Adapter, ModelSpec
from appliance.engine.events import EngineEvent
from appliance.engine.status import State
from appliance.engine.supervisor import Engine
from appliance.errors import ApplianceError
from appliance.policy.residency import Resident, Why
from appliance.standing import Standing


class Listener(Protocol):
    """Who queues questions before models."""

    def changed(self, model_id: str) -> None:
        """Whether this model is open may have changed."""
        ...

    def failed(self, model_id: str, error: ApplianceError) -> None:
        """It can not be had: nobody is to wait for it any longer."""
        ...


class Hands(Protocol):
    """What a fleet can do to the world."""

    def make(
        self,
        spec: ModelSpec,
        *,
        on_event: Callable[[EngineEvent], None],
        prepare: Callable[[], Awaitable[None]],
        adapters: Callable[[], Sequence[Adapter]],
    ) -> Engine:
        """An engine that is not started. Before each of its workers comes `prepare`, then `adapters`."""
        ...

    def needed_by(self, spec: ModelSpec) -> int:
        """Bytes that it is reckoned to hold. Reads a file: called in a thread."""
        ...

    def verify(self, spec: ModelSpec, progress: Callable[[int, int], None]) -> None:
        """Its files are what is pinned, or an ApplianceError. Called in a thread."""
        ...

    def pinned(self) -> list[ModelSpec]:
        """Models that are loaded at the start, and stay; the most important first."""
        ...

    def on_event(self, event: EngineEvent) -> None:
        """For the record."""
        ...


@dataclass(eq=False, slots=True)
class Loaded:
    """A model in memory, or on its way. Owner: the fleet."""

    engine: Engine
    num_bytes: int
    why: Why
    began_us: int
    used_us: int
    ready_us: int | None = None  # since when it answers
    verify_us: int = 0  # how long its file was hashed
    checked: float | None = None  # which part of the file is hashed; None while it is not being hashed
    adapters: frozenset[Adapter] = frozenset()  # that its worker was given
    is_outdated: bool = False  # it is to be loaded anew, with another adapter
    is_held: bool = False  # it begins no further answer, so that it may go
    is_leaving: bool = False

    @property
    def is_open(self) -> bool:
        """It begins answers."""
        return self.engine.is_ready and not (self.is_held or self.is_outdated or self.is_leaving)

    def standing(self, retry_seconds: int) -> Standing:
        """How it is; `retry_seconds`: until its next load, where the last one failed."""
        status = self.engine.status
        if self.is_leaving:
            return Standing("unloading")
        if status.state is State.READY:
            says = "it makes room for another model" if self.is_held else ""
            return Standing("ready", "it is loaded anew with another adapter" if self.is_outdated else says)
        if status.state is State.FAILED or status.code:
            return Standing("failed", status.last_error, retry_seconds)
        if self.checked is not None:
            return Standing("loading", f"its file is hashed: {self.checked:.0%}")
        return Standing("loading")

    def resident(self, *, is_pinned: bool, num_leases: int, num_waiting: int) -> Resident:
        """As it is decided upon. What its worker is seen to hold counts where that is more."""
        return Resident(
            self.engine.spec.id,
            max(self.num_bytes, self.engine.worker_bytes or 0),
            is_pinned=is_pinned,
            is_ready=self.engine.is_ready,
            is_down=self.engine.status.state is State.FAILED,
            is_leaving=self.is_leaving,
            num_leases=num_leases,
            num_waiting=num_waiting,
            ready_us=self.ready_us or self.began_us,
            used_us=self.used_us,
            load_us=self.ready_us - self.began_us if self.ready_us else 0,
        )
