"""Plots: SVG that says in words and numbers what it shows."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from appliance.console.plots import Plot, Series, ceiling

MINUTES = [60_000_000 * minute for minute in range(60)]


def test_plot_is_well_formed_without_style_or_script_and_has_a_title() -> None:
    """What stands in a page under a strict content security policy, and is read out by its name."""
    plot = Plot("<b>&", "per minute", MINUTES, [Series("a", [1.5] * 60), Series("b", [None] * 60)])

    root = ET.fromstring(plot.svg)  # noqa: S314 - of our own making

    assert root.attrib["role"] == "img"
    assert root[0].text == root.attrib["aria-label"] == "<b>&, per minute"
    assert not re.search(r"style=|<script|\son", plot.svg)


def test_gap_is_no_line() -> None:
    """Values that are not known divide a line; one alone is a dot."""
    plot = Plot("t", "u", MINUTES[:6], [Series("a", [1, 2, None, 3, None, 0])])

    assert (plot.svg.count("<polyline"), plot.svg.count("<circle")) == (1, 2)


def test_stacked_bars_stand_on_each_other() -> None:
    """The axis reaches the sum, and the second layer begins where the first ends."""
    plot = Plot("t", "u", MINUTES[:1], [Series("a", [30]), Series("b", [10])], is_stacked=True)

    first, second = [
        {name: float(value) for name, value in re.findall(r'(y|height)="([0-9.]+)"', bar)}
        for bar in re.findall(r"<rect[^>]*>", plot.svg)
    ]

    assert second["y"] + second["height"] == pytest.approx(first["y"], abs=0.11)
    assert first["height"] == pytest.approx(3 * second["height"], abs=0.4)


def test_rows_say_the_same_newest_first() -> None:
    """Each slot that is known has its row; an unknown one has none."""
    plot = Plot("t", "u", MINUTES[:3], [Series("a", [None, 2.0, 12_345.6])])

    assert plot.rows == [(MINUTES[2], ["12\u202f346"]), (MINUTES[1], ["2"])]


def test_labels_are_few_and_round() -> None:
    """An hour is told in tens of minutes."""
    labels = re.findall(
        r'text-anchor="middle">([^<]+)<', Plot("t", "u", MINUTES, [Series("a", [1] * 60)]).svg
    )

    assert labels == ["00:00", "00:10", "00:20", "00:30", "00:40", "00:50"]


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (0.03, 0.05), (1, 1), (1.01, 2), (23, 25), (99, 100), (260, 500)]
)
def test_axis_ends_at_a_round_number(highest: float, top: float) -> None:
    """Above the highest value, and easy to read off."""
    assert ceiling(highest) == pytest.approx(top)


def test_empty_plot_is_drawn_all_the_same() -> None:
    """No sample yet: an axis, and no numbers."""
    plot = Plot("t", "u", [], [Series("a", [])])

    assert plot.is_empty
    assert plot.rows == []
    assert ET.fromstring(plot.svg).tag == "svg"  # noqa: S314 - of our own making
