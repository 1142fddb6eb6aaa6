"""Trends: the last hour and day from counts that only grow."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from appliance.core import Outcome, Usage
from appliance.metrics import FIRST_TOKEN_BOUNDS, GAP_BOUNDS, Counts, Metrics, WorkerFigures
from appliance.terms import Endpoint
from appliance.trends import MINUTE_US, QUARTER_US, Ring, Sample, Trends, quantile

NONE = Counts({}, {}, (0,) * 16, (0,) * 14, 0, 0, 0, 0, 0)
START_US = 1_800_000_000_000_000


def sample(seconds: float, *, waiting: int = 0, tokens: int = 0, closed: int = 0) -> Sample:
    counts = replace(NONE, closed={"stop": closed}, completion_tokens=tokens)
    return Sample(int(START_US + seconds * 1e6), counts, 0, waiting)


def test_counts_are_those_of_all_models_together() -> None:
    """Counters by label, histograms by bucket, workers' figures: summed over models."""
    metrics = Metrics()
    figures = WorkerFigures(1, 2, 10, 5, 1, 0, 300, (1, 2), (3, 4, 5), {"completion": 7})
    for model in ("a", "b"):
        metrics.request_closed(
            model=model, endpoint=Endpoint.CHAT, outcome=Outcome.STOP, usage=Usage(1, 2), duration_us=1
        )
        metrics.first_token(model=model, duration_us=70_000)
        metrics.next_tokens(model=model, duration_us=9_000_000, num_tokens=1)
    metrics.workers({"a": figures, "b": figures, "c": None})
    metrics.request_refused("overloaded")

    counts = metrics.counts()

    assert counts.closed == {"stop": 2}
    assert counts.refused == {"overloaded": 1}
    assert counts.first_token == (0, 2, *(0,) * (len(FIRST_TOKEN_BOUNDS) - 1))
    assert counts.gap == (*(0,) * len(GAP_BOUNDS), 2)
    assert (counts.steps, counts.step_us, counts.completion_tokens) == (24, 600, 14)
    assert (counts.running, counts.waiting) == (2, 4)


def test_slot_holds_what_happened_in_it() -> None:
    """Two samples of one minute make one point, with the counts of its end and the longest queue in it."""
    ring = Ring(MINUTE_US, 60)
    for each in (sample(0), sample(10, waiting=9, tokens=5), sample(20, tokens=30), sample(60, tokens=90)):
        ring.add(each)

    points = ring.points()

    assert [(each.completion_tokens, each.waiting) for each in points] == [(30, 9), (60, 0)]
    assert points[0].tokens_per_second == pytest.approx(1.5)


def test_ring_is_bounded_and_covers_its_span() -> None:
    """A week of samples leaves 60 points, and as many slots, whatever was missing in between."""
    ring = Ring(MINUTE_US, 60)
    for minute in range(7 * 24 * 60):
        ring.add(sample(60 * minute, closed=minute))
    ring.add(sample(60 * (7 * 24 * 60 + 30), closed=20_000))

    assert len(ring.points()) == 60
    slots = ring.slots()
    assert len(slots) == 60
    assert sum(point is None for _, point in slots) == 30
    ends = [end_us for end_us, _ in slots]
    assert {later - earlier for earlier, later in itertools.pairwise(ends)} == {MINUTE_US}


def test_worker_that_starts_anew_counts_from_nothing() -> None:
    """A count that fell is what the new worker has done, never less than nothing."""
    ring = Ring(MINUTE_US, 60)
    for each in (sample(0, tokens=500), sample(60, tokens=40)):
        ring.add(each)

    assert ring.points()[0].completion_tokens == 40


def test_clock_that_was_put_back_makes_no_second_past() -> None:
    """Samples of an earlier time stay in the newest slot; moments never fall."""
    ring = Ring(MINUTE_US, 60)
    for each in (sample(0), sample(120, tokens=10), sample(30, tokens=20), sample(180, tokens=50)):
        ring.add(each)

    points = ring.points()

    assert [each.completion_tokens for each in points] == [20, 30]
    assert all(each.end_us > each.begin_us for each in points)


def test_since_looks_back_as_far_as_it_can() -> None:
    """The point behind a moment begins there, or where the samples begin."""
    trends = Trends()
    assert trends.hour.since(START_US) is None
    for minute in range(30):
        trends.add(START_US + minute * MINUTE_US, replace(NONE, completion_tokens=minute))

    lately = trends.hour.since(START_US + 29 * MINUTE_US - QUARTER_US)

    assert lately is not None
    assert lately.completion_tokens == 15
    whole = trends.day.since(0)
    assert whole is not None
    assert whole.completion_tokens == 29


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((0, 0, 0), 0.5, None),
        ((4, 0, 0), 0.5, 0.5),
        ((1, 1, 0), 0.95, 1.9),
        ((0, 0, 3), 0.5, 2.0),
        ((0, 10, 0), 1.0, 2.0),
    ],
)
def test_quantile_is_linear_inside_a_bucket(
    counts: tuple[int, ...], q: float, expected: float | None
) -> None:
    """As Prometheus tells it: nothing for nothing, and the last bound for what lies above it."""
    found = quantile((1.0, 2.0), counts, q)

    assert found == (None if expected is None else pytest.approx(expected))
