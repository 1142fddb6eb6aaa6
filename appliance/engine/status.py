"""Where a model's worker is in its life, as everybody may look at it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from appliance.engine import messages


class State(StrEnum):
    """Where the worker is in its life."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    READY = "READY"
    DRAINING = "DRAINING"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A picture of the engine; advisory the moment it is taken."""

    state: State
    ready: messages.Ready | None
    restarts: int
    last_error: str
    stats: messages.Stats | None
    code: str = ""  # what `last_error` is called: worker_died, worker_hung, load_failed, …
