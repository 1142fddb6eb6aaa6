"""What an engine tells about its worker's life; the composition root puts it on the record."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core import ModelSpec
from appliance.engine.messages import Ready


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    """The worker is ready."""

    model: ModelSpec
    ready: Ready
    why: str = "start"  # `policy.residency.Why`
    verify_us: int = 0  # how long the file was hashed before


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """The worker died, or could not load. `code` is one of ours: load_failed, worker_died, …"""

    model: ModelSpec
    code: str


@dataclass(frozen=True, slots=True)
class ModelUnloaded:
    """The worker was stopped."""

    model: ModelSpec
    why: str = "stop"


EngineEvent = ModelLoaded | ModelFailed | ModelUnloaded
