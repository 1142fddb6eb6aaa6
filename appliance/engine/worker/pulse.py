"""The worker's pulse: each second that it lives, and for how long its threads have been at what they do.

The threads that work have no time to say so themselves; this one does nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Final

from appliance.clock import Clock
from appliance.engine.messages import Pulse

EVERY_SECONDS: Final = 1.0
INTAKE: Final = "intake"
STEP: Final = "step"


class Pulses:
    """Each thread owns its own mark; the pulse's thread reads them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_us = {INTAKE: 0, STEP: 0}  # monotonic; 0 while it waits for work

    def begins(self, thread: str) -> None:
        """A piece of work, or the next one."""
        self._since_us[thread] = self._clock.monotonic_us()

    def rests(self, thread: str) -> None:
        """It waits for news."""
        self._since_us[thread] = 0

    def take(self) -> Pulse:
        """The longest that any of them has been at one piece of work."""
        now_us = self._clock.monotonic_us()
        return Pulse(max(0, *(now_us - since for since in self._since_us.values() if since), 0))

    def beat_for_ever(self, say: Callable[[Pulse], None]) -> None:
        """The thread's life."""
        waiting = threading.Event()
        try:
            while True:
                say(self.take())
                waiting.wait(EVERY_SECONDS)
        except OSError:
            os._exit(0)  # the gateway has gone
        except Exception as error:  # the thread's edge: without a pulse the worker is taken for dead
            sys.stderr.write(f"the pulse thread failed: {type(error).__name__}\n")
            os._exit(1)
