"""Plots as SVG, drawn on the server: they need no script, print well, and are told as a table besides.

Series differ by colour and by dash, and each is named in the legend. Classes only: the pages' style sheet
gives them their colours, in the light and in the dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup

_WIDTH: Final = 640
_HEIGHT: Final = 190
_LEFT: Final = 46
_RIGHT: Final = 8
_TOP: Final = 10
_BOTTOM: Final = 24
_NICE: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_MAX_LABELS: Final = 8
_STEPS_S: Final = (60, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400, 21_600)  # round times of day


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one layer of bars. A value of None is a gap."""

    name: str
    values: Sequence[float | None]
    look: int = 0  # 1 to 7: its colour and dash in the style sheet; 0: by its place


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture with its legend and its numbers. Moments in microseconds UTC, ascending: ends of slots."""

    title: str
    unit: str
    moments: Sequence[int]
    series: Sequence[Series]
    is_stacked: bool = False
    labels: Sequence[str] = ()  # below the axis, one for each moment; none: the time of day

    @property
    def is_empty(self) -> bool:
        """Nothing happened that could be drawn."""
        return not any(value for each in self.series for value in each.values)

    @property
    def looks(self) -> list[tuple[int, Series]]:
        """Each series with the number of its look."""
        return [(each.look or place, each) for place, each in enumerate(self.series, start=1)]

    @property
    def svg(self) -> Markup:
        """The picture; its title says what a table below says in numbers."""
        top = ceiling(self._highest())
        grid = "".join(_grid_line(top * part / 4, top) for part in range(5))
        drawn = "".join(self._bars(top) if self.is_stacked else self._lines(top))
        inside = f"{grid}{''.join(self._x_labels())}{drawn}"
        return Markup(
            '<svg class="plot" viewBox="0 0 {w} {h}" role="img" aria-label="{name}">'
            "<title>{name}</title>{inside}</svg>"
        ).format(
            w=_WIDTH,
            h=_HEIGHT,
            name=f"{self.title}, {self.unit}",
            inside=Markup(inside),  # noqa: S704 - numbers, and class names of this file
        )

    @property
    def rows(self) -> list[tuple[int, list[str]]]:
        """The same numbers, newest first: the end of each slot, and what each series says."""
        told = [
            (moment, [each.values[place] for each in self.series])
            for place, moment in enumerate(self.moments)
        ]
        return [
            (moment, [_number(value) for value in values])
            for moment, values in told[::-1]
            if any(value is not None for value in values)
        ]

    def _highest(self) -> float:
        if self.is_stacked:
            return max(
                (sum(each.values[at] or 0 for each in self.series) for at in range(len(self.moments))),
                default=0,
            )
        return max((value or 0 for each in self.series for value in each.values), default=0)

    def _x(self, place: int) -> float:
        step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(self.moments))
        return _LEFT + step * (place + 0.5)

    def _x_labels(self) -> list[str]:
        return [
            f'<text class="tick" x="{self._x(place):.1f}" y="{_HEIGHT - 7}" text-anchor="middle">'
            f"{label}</text>"
            for place, label in self._labelled()
        ]

    def _labelled(self) -> list[tuple[int, str]]:
        """Places with a label: round moments, as few as can be read."""
        if self.labels:
            every = -(-len(self.labels) // _MAX_LABELS)
            return [(place, self.labels[place]) for place in range(len(self.labels) - 1, -1, -every)]
        span_s = (self.moments[-1] - self.moments[0]) // 1_000_000 if self.moments else 0
        step_s = next((each for each in _STEPS_S if span_s / each <= _MAX_LABELS), _STEPS_S[-1])
        return [
            (place, f"{datetime.fromtimestamp(moment / 1e6, tz=UTC):%H:%M}")
            for place, moment in enumerate(self.moments)
            if moment // 1_000_000 % step_s == 0
        ]

    def _lines(self, top: float) -> list[str]:
        drawn = []
        for number, each in self.looks:
            for run in _runs(each.values):
                at = " ".join(f"{self._x(place):.1f},{_y(each.values[place] or 0, top):.1f}" for place in run)
                if len(run) == 1:
                    x, y = at.split(",")
                    drawn.append(f'<circle class="dot s{number}" cx="{x}" cy="{y}" r="2"/>')
                else:
                    drawn.append(f'<polyline class="line s{number}" points="{at}"/>')
        return drawn

    def _bars(self, top: float) -> list[str]:
        width = max(1.0, (_WIDTH - _LEFT - _RIGHT) / max(1, len(self.moments)) * 0.8)
        drawn = []
        for place in range(len(self.moments)):
            below = 0.0
            for number, each in self.looks:
                value = each.values[place] or 0
                if value:
                    y, foot = _y(below + value, top), _y(below, top)
                    drawn.append(
                        f'<rect class="bar-part s{number}" x="{self._x(place) - width / 2:.1f}" y="{y:.1f}" '
                        f'width="{width:.1f}" height="{foot - y:.1f}"/>'
                    )
                below += value
        return drawn


def ceiling(highest: float) -> float:
    """The round number at the top of an axis that shows this value."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** _exponent(highest)
    return next(power * each for each in _NICE if power * each >= highest * 0.999999)


def _exponent(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)


def _grid_line(value: float, top: float) -> str:
    y = _y(value, top)
    return (
        f'<line class="grid-line" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_number(value)}</text>'
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}".replace(",", "\u202f")


def _runs(values: Sequence[float | None]) -> list[list[int]]:
    """Places without a gap between them."""
    runs: list[list[int]] = []
    for place, value in enumerate(values):
        if value is None:
            continue
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
