"""`python -m tests.fakes.serve_stepping --home DIR --log-file FILE`: as `serve`, by a clock that a test sets.

The file DIR.clock says by how many seconds the wall clock is off; the monotonic one is the host's.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from appliance import services
from appliance.clock import SystemClock

_FILE = Path(sys.argv[sys.argv.index("--home") + 1]).with_suffix(".clock")


class SteppingClock(SystemClock):
    """The host's clocks, and what the test adds."""

    def now_us(self) -> int:
        seconds = float(_FILE.read_text(encoding="ascii")) if _FILE.exists() else 0.0
        return super().now_us() + int(seconds * 1_000_000)


if __name__ == "__main__":
    services.SystemClock = SteppingClock  # type: ignore[attr-defined]  # what a host does whose time source is wrong
    runpy.run_module("tests.fakes.serve", run_name="__main__")
