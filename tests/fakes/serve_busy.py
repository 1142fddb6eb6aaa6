"""`python -m tests.fakes.serve_busy --home DIR --log-file FILE`: as `serve`, with a day behind it.

What the health page draws is kept in memory since the start; a picture needs a past. This one is invented.
"""

from __future__ import annotations

import argparse
import math
import sys

import msgspec

from appliance import config, services
from appliance.cli.base import report
from appliance.cli.serve import run
from appliance.clock import SystemClock
from appliance.errors import ApplianceError
from appliance.metrics import FIRST_TOKEN_BOUNDS, GAP_BOUNDS, Counts
from appliance.trends import Trends

_MINUTES = 24 * 60


class BusyTrends(Trends):
    """A day like any other: quiet at night, two busy times, a handful of failures."""

    def __init__(self) -> None:
        super().__init__()
        now_us = SystemClock().now_us()
        closed = {"stop": 0, "length": 0, "client_gone": 0, "failed": 0}
        refused = {"overloaded": 0, "invalid_api_key": 0}
        first, gap = [0] * (len(FIRST_TOKEN_BOUNDS) + 1), [0] * (len(GAP_BOUNDS) + 1)
        steps = step_us = tokens = 0
        for minute in range(_MINUTES):
            load = 14 + 9 * math.sin(minute / 41) + 6 * math.sin(minute / 7) + 3 * math.sin(minute * 1.7)
            num = max(1, round(load))
            closed["stop"] += num
            closed["length"] += num // 6
            closed["client_gone"] += minute % 9 == 0
            closed["failed"] += minute % 311 == 7
            refused["overloaded"] += 2 * (num > 26)
            refused["invalid_api_key"] += minute % 97 == 3
            for slower in range(5):
                first[slower] += num // (slower + 1)
                gap[slower + 2] += num * 30 // (slower * slower + 1)
            steps += 60 * num
            step_us += 60 * num * (18_000 + 700 * num)
            tokens += num * 150
            counts = Counts(
                dict(closed), dict(refused), tuple(first), tuple(gap), steps, step_us, tokens,
                running=min(16, num // 2), waiting=max(0, num - 24),
            )  # fmt: skip
            super().add(now_us - (_MINUTES - minute) * 60_000_000, counts)
        self._past = counts

    def add(self, ts_us: int, counts: Counts) -> None:
        """On top of the past."""
        past = self._past
        super().add(
            ts_us,
            Counts(
                {name: counts.closed.get(name, 0) + past.closed.get(name, 0) for name in past.closed},
                {name: counts.refused.get(name, 0) + past.refused.get(name, 0) for name in past.refused},
                tuple(map(sum, zip(counts.first_token, past.first_token, strict=True))),
                tuple(map(sum, zip(counts.gap, past.gap, strict=True))),
                counts.steps + past.steps,
                counts.step_us + past.step_us,
                counts.completion_tokens + past.completion_tokens,
                counts.running,
                counts.waiting,
            ),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--log-file", required=True)
    options = parser.parse_args()
    home = config.find_home(options.home)
    services.Trends = BusyTrends  # type: ignore[attr-defined]  # the past instead of nothing
    try:
        settings = config.load(home)
        settings = msgspec.structs.replace(
            settings,
            server=msgspec.structs.replace(settings.server, port=0),
            console=msgspec.structs.replace(settings.console, port=0),
            log=msgspec.structs.replace(settings.log, file=options.log_file),
        )
        run(home, settings, worker_command=[sys.executable, "-m", "tests.fakes.fake_worker"])
    except ApplianceError as error:
        sys.exit(report(error))
