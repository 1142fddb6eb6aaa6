"""Takes a sample of the metrics each ten seconds, for the trends that the health page draws."""

from __future__ import annotations

import asyncio

from appliance.clock import Clock
from appliance.fleet import Fleet
from appliance.metrics import Metrics
from appliance.trends import SAMPLE_SECONDS, Trends


async def sample_for_ever(trends: Trends, metrics: Metrics, fleet: Fleet, clock: Clock) -> None:
    """Until it is cancelled. What it reads lies in memory."""
    while True:
        figures_of_workers(metrics, fleet)
        trends.add(clock.now_us(), metrics.counts())
        await asyncio.sleep(SAMPLE_SECONDS)


def figures_of_workers(metrics: Metrics, fleet: Fleet) -> None:
    """What the workers last told of themselves; a model that has left tells nothing."""
    metrics.workers({model: engine.figures for model, engine in fleet.engines.items()})
