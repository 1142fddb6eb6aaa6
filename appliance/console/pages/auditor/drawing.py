"""Pictures as numbers: where the bars of a timeline and of timings stand. Templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import segno

from appliance.audit.timeline import Timeline
from appliance.console.pages.auditor.words import KINDS, OUTCOMES
from appliance.core import Outcome

WIDTH: Final = 1000
HEIGHT: Final = 170
LEFT: Final = 46  # for the numbers beside the axis
BOTTOM: Final = 20  # for the times below it
_TOP: Final = 8
_GAP: Final = 2
_DIVISIONS: Final = (1, 2, 5)

# The stack from below. What ends well is the least conspicuous.
SERIES: Final[Sequence[tuple[str, str]]] = (
    ("answered", "Answered"),
    ("stopped", "Caller left, or stopped by a rule"),
    ("failed", "Failed"),
    ("refused", "Refused"),
    ("other", "Other entries"),
)
_SERIES_OF: Final[Mapping[str, str]] = {
    Outcome.STOP: "answered",
    Outcome.LENGTH: "answered",
    Outcome.TOOL_CALLS: "answered",
    Outcome.CLIENT_GONE: "stopped",
    Outcome.CONTENT_FILTER: "stopped",
    Outcome.FAILED: "failed",
    Outcome.RECOVERED: "failed",
    "request:refused": "refused",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a bar, in the picture's units."""

    series: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One span of time: its number, its place, what happened in it."""

    number: int
    begin_us: int
    end_us: int
    x: float
    width: float
    parts: Sequence[Part]
    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Chart:
    """The timeline, ready to be drawn."""

    bars: Sequence[Bar]
    lines: Sequence[tuple[float, int]]  # y, number
    series: Sequence[tuple[str, str, int]]  # name, label, number, of those that are there
    totals: Sequence[tuple[str, int]]
    begin_us: int
    end_us: int
    unseen_width: float  # from the left: what was not counted

    @property
    def total(self) -> int:
        return sum(number for _, number in self.totals)


def chart(found: Timeline) -> Chart:
    """Bars from a timeline."""
    stacked = [_series(each) for each in found.counts]
    top = _round_up(max((sum(each.values()) for each in stacked), default=0))
    scale = (HEIGHT - BOTTOM - _TOP) / top
    step = (WIDTH - LEFT) / max(1, len(stacked))
    bars = []
    for number, (counts, counted) in enumerate(zip(stacked, found.counts, strict=True)):
        y = float(HEIGHT - BOTTOM)
        parts = []
        for name, _ in SERIES:
            if counts.get(name):
                height = max(1.5, counts[name] * scale)  # one of a million is seen too
                y -= height
                parts.append(Part(name, round(y, 2), round(height, 2)))
        begin_us = found.begin_us + number * found.bucket_us
        bars.append(
            Bar(
                number,
                begin_us,
                min(begin_us + found.bucket_us, found.end_us),
                round(LEFT + number * step, 2),
                round(max(1.0, step - _GAP), 2),
                parts,
                {label_of(name): n for name, n in counted.items()},
            )
        )
    sums = {name: sum(each.get(name, 0) for each in stacked) for name, _ in SERIES}
    unseen = 0.0
    if not found.complete:
        share = (found.counted_from_us - found.begin_us) / max(1, found.end_us - found.begin_us)
        unseen = round(min(1.0, max(0.0, share)) * (WIDTH - LEFT), 2)
    return Chart(
        bars=bars,
        lines=[(round(HEIGHT - BOTTOM - top * at * scale, 2), round(top * at)) for at in (0.5, 1.0)],
        series=[(name, label, sums[name]) for name, label in SERIES if sums[name]],
        totals=sorted(
            ((label_of(name), number) for name, number in found.total.items()), key=lambda each: -each[1]
        ),
        begin_us=found.begin_us,
        end_us=found.end_us,
        unseen_width=unseen,
    )


def label_of(name: str) -> str:
    """An outcome's or a kind's name, for people."""
    known = {
        **{str(k): label for k, label in KINDS.items()},
        **{str(o): label for o, label in OUTCOMES.items()},
    }
    return known.get(name, name)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a part of a request's time went. `x` and `width` in hundredths of a percent."""

    name: str
    label: str
    us: int
    x: float
    width: float


def stretches(parts: Sequence[tuple[str, str, int]]) -> list[Stretch]:
    """One bar of parts: (name, label, microseconds)."""
    total = sum(us for _, _, us in parts)
    found: list[Stretch] = []
    x = 0.0
    for name, label, us in parts:
        width = WIDTH * us / total if total else 0.0
        found.append(Stretch(name, label, us, round(x, 2), round(width, 2)))
        x += width
    return found


@dataclass(frozen=True, slots=True)
class Qr:
    """A QR code as one path of an SVG whose sides are `size` units, quiet zone included."""

    size: int
    path: str


def qr(text: str) -> Qr | None:
    """The code of a text; None where it is too long for one."""
    try:
        code = segno.make_qr(text.encode(), error="m")
    except segno.DataOverflowError:
        return None
    border = 4
    steps = []
    for y, row in enumerate(code.matrix):
        x = 0
        while x < len(row):
            length = 0
            while x + length < len(row) and row[x + length]:
                length += 1
            if length:
                steps.append(f"M{x + border} {y + border}h{length}v1h-{length}z")
            x += max(1, length)
    return Qr(len(code.matrix) + 2 * border, "".join(steps))


def _series(counts: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, number in counts.items():
        series = _SERIES_OF.get(name, "other")
        found[series] = found.get(series, 0) + number
    return found


def _round_up(number: int) -> int:
    """The next 1, 2 or 5 with zeros, and even, so that its half is a number."""
    size = 1
    while True:
        for each in _DIVISIONS:
            if each * size >= max(number, 2):
                return each * size if each * size % 2 == 0 else each * size * 2
        size *= 10
