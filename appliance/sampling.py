"""Takes a sample of the metrics each ten seconds, for the trends that the health page draws."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from appliance.clock import Clock
from appliance.engine.supervisor import Engine
from appliance.metrics import Metrics
from appliance.trends import SAMPLE_SECONDS, Trends


async def sample_for_ever(
    trends: Trends, metrics: Metrics, engines: Mapping[str, Engine], clock: Clock
) -> None:
    """Until it is cancelled. What it reads lies in memory."""
    while True:
        for model, engine in engines.items():
            metrics.worker(model, engine.figures)
        trends.add(clock.now_us(), metrics.counts())
        await asyncio.sleep(SAMPLE_SECONDS)
