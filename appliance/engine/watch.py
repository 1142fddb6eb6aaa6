"""Watches a ready worker's pulse: one that was stopped, or whose threads are stuck, is given up.

A worker says each second that it lives, and for how long its threads have been at what they do
(engine/worker/pulse.py). Looks are counted, not seconds: a gateway that was asleep itself hears what waits
for it before it counts on. A worker that has no pulse at all is of another release, and is not watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from appliance.engine.messages import Pulse
from appliance.engine_settings import Engine as EngineSettings

LOOK_SECONDS: Final = 1.0
SILENT: Final = "the worker has not answered for {} s: it was stopped, or this machine has no time for it"
STUCK: Final = "the worker has been at one step for longer than engine.request_timeout_seconds"


class Watch:
    """Of one engine's workers, one after the other. Owner: the task that listens to them."""

    def __init__(self, settings: EngineSettings) -> None:
        self._max_silent = settings.silent_seconds
        self._longest_us = settings.request_timeout_seconds * 1_000_000
        self._num_silent: int | None = None  # looks without a pulse; None before the first one
        self._busy_us = 0

    def heard(self, pulse: Pulse) -> None:
        """It lives."""
        self._num_silent = 0
        self._busy_us = pulse.busy_us

    async def beside(self, listening: Coroutine[Any, Any, None]) -> str:
        """Listen to a worker's end. What is wrong where it is to be given up before, else nothing."""
        self._num_silent, self._busy_us = None, 0
        task = asyncio.ensure_future(listening)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=LOOK_SECONDS)
                if not task.done() and (problem := self._look()):
                    return problem
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return ""

    def _look(self) -> str:
        if self._num_silent is None:
            return ""
        self._num_silent += 1
        if self._num_silent > self._max_silent:
            return SILENT.format(self._max_silent)
        return STUCK if self._busy_us > self._longest_us else ""
