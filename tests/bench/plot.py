"""Draws results.json: each ratio as a bar, its target as a mark. Runs in the bench's own environment.

python tests/bench/plot.py results.json results.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

_MET, _MISSED, _OPEN = "#2f7d4f", "#b5452c", "#8a93a0"
_ROW_INCHES = 0.3


def main(source: Path, target: Path) -> None:
    """One figure for all parts."""
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures, the same file
    rows = _rows(json.loads(source.read_text(encoding="utf-8")))
    if not rows:
        sys.exit("no part of the results has a peer beside it")
    figure, axes = plt.subplots(figsize=(10, 1.2 + _ROW_INCHES * len(rows)), layout="constrained")
    for place, row in enumerate(reversed(rows)):
        colour = _OPEN if row["is_met"] is None else _MET if row["is_met"] else _MISSED
        axes.barh(place, row["ratio"], color=colour, height=0.62)
        bound = row["at_least"] if row["at_least"] is not None else row["at_most"]
        words = f"{row['ratio']:.2f}"
        if bound is not None:
            axes.plot([bound, bound], [place - 0.42, place + 0.42], color="black", linewidth=2)
            words += f"  (wanted: {'≥' if row['at_least'] is not None else '≤'} {bound:g})"
        end = max(row["ratio"], bound or 0)
        axes.annotate(words, (end, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(
        range(len(rows)), [f"{row['label']}  /  {row['peer_name']}" for row in reversed(rows)], fontsize=8
    )
    axes.axvline(1, color="black", linewidth=0.6, linestyle=":")
    axes.set_xscale("log")
    ratios = [row["ratio"] for row in rows]
    axes.set_xlim(min(0.2, *ratios) * 0.9, max(8, *ratios) * 2)  # with room for the words at the end
    axes.set_xticks([0.125, 0.25, 0.5, 1, 2, 4, 8], ["⅛", "¼", "½", "1", "2", "4", "8"])
    axes.minorticks_off()
    axes.set_xlabel("ours divided by theirs; the black mark is the target (green: met)")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(target, metadata={"Date": None, "Creator": None})


def _rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for part in data.values() for row in part["rows"] if row["ratio"]]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
