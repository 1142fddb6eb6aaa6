"""The last hour and the last day in numbers, for an operator's eyes. Pure: whoever owns it hands in samples.

A sample is what `Metrics.counts` told at a moment. Counts only grow, so the last sample of each slot is
enough: what happened in a slot is the difference to the one before. Bounded: 61 slots of a minute and 97 of
a quarter of an hour, in memory only. No content, no names, no keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.metrics import FIRST_TOKEN_BOUNDS, GAP_BOUNDS, Counts

SAMPLE_SECONDS: Final = 10
MINUTE_US: Final = 60_000_000
QUARTER_US: Final = 15 * MINUTE_US
_HOUR_SLOTS: Final = 60
_DAY_SLOTS: Final = 96
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """The counts at the end of a slot, and the longest queue that was seen in it."""

    ts_us: int
    counts: Counts
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the slow end of some times, in seconds; None where there were none."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """What happened between two samples."""

    begin_us: int
    end_us: int
    closed: Mapping[str, int]  # by outcome
    refused: Mapping[str, int]  # by code
    running: int
    waiting: int
    steps: int
    step_us: int
    completion_tokens: int
    first_token: Spread
    gap: Spread

    @property
    def seconds(self) -> float:
        return max((self.end_us - self.begin_us) / _US, 1e-6)

    @property
    def step_ms(self) -> float | None:
        """The mean step; None where there was none."""
        return self.step_us / self.steps / 1000 if self.steps else None

    @property
    def tokens_per_second(self) -> float:
        return self.completion_tokens / self.seconds

    def per_minute(self, count: int) -> float:
        """A count of this point as a rate."""
        return count * 60 / self.seconds


class Ring:
    """The last sample of each slot, oldest first. Owner: whoever owns the trends."""

    def __init__(self, slot_us: int, num_slots: int) -> None:
        self.slot_us = slot_us
        self.num_slots = num_slots
        self._samples: deque[Sample] = deque(maxlen=num_slots + 1)

    def add(self, sample: Sample) -> None:
        """In the slot of its moment; a clock that was put back stays in the slot where it was.

        The first sample stands alone: it is what the first slot is compared with.
        """
        slot = sample.ts_us // self.slot_us
        if len(self._samples) > 1 and slot <= self._samples[-1].ts_us // self.slot_us:
            last = self._samples.pop()
            sample = Sample(
                max(last.ts_us, sample.ts_us),
                sample.counts,
                max(last.running, sample.running),
                max(last.waiting, sample.waiting),
            )
        self._samples.append(sample)

    def points(self) -> list[Point]:
        """What happened in each slot but the first, which has none before it."""
        samples = list(self._samples)
        return [between(samples[i], samples[i + 1]) for i in range(len(samples) - 1)]

    def slots(self) -> list[tuple[int, Point | None]]:
        """The end of each slot of the whole span, oldest first, and what happened in it where it is known."""
        points = self.points()
        if not points:
            return []
        known = {each.end_us // self.slot_us: each for each in points}
        last = max(known)
        return [
            ((slot + 1) * self.slot_us, known.get(slot))
            for slot in range(last - self.num_slots + 1, last + 1)
        ]

    def since(self, begin_us: int) -> Point | None:
        """Everything behind a moment as one point; None while there is one sample only."""
        samples = list(self._samples)
        if len(samples) < 2:
            return None
        earlier = [each for each in samples[:-1] if each.ts_us <= begin_us]
        return between(earlier[-1] if earlier else samples[0], samples[-1])


class Trends:
    """Owner of both rings: the event loop's thread."""

    def __init__(self) -> None:
        self.hour = Ring(MINUTE_US, _HOUR_SLOTS)
        self.day = Ring(QUARTER_US, _DAY_SLOTS)

    def add(self, ts_us: int, counts: Counts) -> None:
        """A sample of this moment, microseconds UTC."""
        sample = Sample(ts_us, counts, counts.running, counts.waiting)
        self.hour.add(sample)
        self.day.add(sample)


def between(earlier: Sample, later: Sample) -> Point:
    """The difference of two samples."""
    one, other = earlier.counts, later.counts
    return Point(
        begin_us=earlier.ts_us,
        end_us=later.ts_us,
        closed=_grown(one.closed, other.closed),
        refused=_grown(one.refused, other.refused),
        running=later.running,
        waiting=later.waiting,
        steps=_more(one.steps, other.steps),
        step_us=_more(one.step_us, other.step_us),
        completion_tokens=_more(one.completion_tokens, other.completion_tokens),
        first_token=_spread(FIRST_TOKEN_BOUNDS, one.first_token, other.first_token),
        gap=_spread(GAP_BOUNDS, one.gap, other.gap),
    )


def quantile(bounds: Sequence[float], counts: Sequence[int], q: float) -> float | None:
    """The q-th part of times that are known by bucket only, linear inside one, as Prometheus tells it.

    `counts` has one more than `bounds`; what lies above the last bound is told as that bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, seen, lower = q * total, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and seen + count >= rank:
            return lower + (bound - lower) * (rank - seen) / count
        seen += count
        lower = bound
    return bounds[-1]


def _spread(bounds: Sequence[float], earlier: Sequence[int], later: Sequence[int]) -> Spread:
    counts = [_more(one, other) for one, other in zip(earlier, later, strict=True)]
    return Spread(quantile(bounds, counts, 0.5), quantile(bounds, counts, 0.95))


def _grown(earlier: Mapping[str, int], later: Mapping[str, int]) -> dict[str, int]:
    found = {name: _more(earlier.get(name, 0), count) for name, count in later.items()}
    return {name: count for name, count in sorted(found.items()) if count}


def _more(earlier: int, later: int) -> int:
    """A worker that was started anew counts from nothing."""
    return later - earlier if later >= earlier else later
