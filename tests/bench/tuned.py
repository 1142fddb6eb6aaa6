"""Our own settings, measured once for the whole run, as an operator does with `appliance bench --tune`."""

from __future__ import annotations

import asyncio
from functools import cache

from appliance import config
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import ModelSpec
from appliance.engine.messages import Ready
from appliance.engine.supervisor import Engine
from appliance.engine.tunings import Fixed, Tunings
from appliance.engine_settings import Engine as EngineSettings
from tests.starter import starter_model

_SECONDS = 120.0


def spec() -> ModelSpec:
    """The starter model, where the tests keep it."""
    path = starter_model()
    return ModelSpec(id="starter", sha256=path.name, size_bytes=path.stat().st_size, path=path)


@cache
def measured() -> Ready:
    """What a worker says after measuring thoroughly."""
    return asyncio.run(_measure())


def fixed() -> Fixed:
    """For an engine without a home."""
    return Fixed(measured().tuning)


def keep(home: Home) -> None:
    """For a whole appliance: the file that `bench --tune` would have left in its home."""
    ready = measured()
    layers = config.load(home).engine.n_gpu_layers
    Tunings(home.tuning, n_gpu_layers=layers).store(spec(), ready.tuning, ready.trials)


async def _measure() -> Ready:
    engine = Engine(
        spec(), EngineSettings(), clock=SystemClock(), on_event=lambda _event: None, thorough=True
    )
    await engine.start()
    try:
        await engine.wait_ready(_SECONDS)
        ready = engine.status.ready
        if ready is None:
            raise RuntimeError(f"the worker is not ready: {engine.status.last_error}")
        return ready
    finally:
        await engine.stop()
