"""The table and the plot of a run: RESULTS.md and results.svg beside this file, from results.json."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.figures import Row
from tests.bench.peers import CORES, bench_python

_HERE = Path(__file__).parent
_DATA = _HERE / "results.json"
_TABLE = _HERE / "RESULTS.md"
_PLOT = _HERE / "results.svg"
_DRAW_SECONDS = 120
_HEAD = """# Results of `make bench`

Written by the bench. Each part measures this appliance and its peers in one run on one machine; the
ratio is ours divided by theirs. What is measured, and how, stands in the file of the part's name.

![ratios against their targets](results.svg)
"""


def keep(subject: str, rows: Sequence[Row], notes: Sequence[str], seconds: float) -> None:
    """Put a part's rows into results.json."""
    data = _read()
    data[subject] = {
        "when": f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "cpu": f"{_cpu()}, {CORES} cores",
        "seconds": round(seconds),
        "rows": [_plain(each) for each in rows],
        "notes": list(notes),
    }
    _DATA.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write(order: Iterable[str]) -> None:
    """The table of all parts that have been measured, in this order."""
    data = _read()
    parts = {subject: data[subject] for subject in order if subject in data}
    _TABLE.write_text(_markdown(parts), encoding="utf-8")


def draw() -> str:
    """The plot, in the environment that can draw; a line about what happened."""
    python = bench_python()
    if python is None:
        return "no plot: the bench's environment is not installed (make bench installs it)"
    done = subprocess.run(
        [str(python), str(_HERE / "plot.py"), str(_DATA), str(_PLOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_DRAW_SECONDS,
    )
    return "the plot is drawn" if done.returncode == 0 else f"no plot: {done.stderr.strip()[-300:]}"


def line(row: Row) -> str:
    """A row for people who watch."""
    peer = f"  {row.peer_name} {number(row.peer)}" if row.peer is not None else ""
    ratio = f"  ratio {row.ratio:.2f}" if row.ratio is not None else ""
    target = f"  ({row.target}: {_verdict(row)})" if row.is_met is not None else ""
    return f"{row.label}: {number(row.ours)} {row.unit}{peer}{ratio}{target}"


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _markdown(data: dict[str, Any]) -> str:
    parts = [_HEAD]
    for subject, part in data.items():
        parts.append(f"\n## {subject}\n")
        parts.append(f"{part['when']}, commit {part['commit']}, {part['cpu']}, {part['seconds']} s\n")
        parts.append("| figure | unit | here | peer | peer's | ratio | target | met |")
        parts.append("|---|---|---|---|---|---|---|---|")
        for raw in part["rows"]:
            row = Row(**{name: raw.get(name) for name in (each.name for each in dataclasses.fields(Row))})
            peer = number(row.peer) if row.peer is not None else ""
            ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
            cells = (row.label, row.unit, number(row.ours), row.peer_name, peer, ratio, row.target)
            parts.append(f"| {' | '.join(cells)} | {_verdict(row)} |")
        parts += ["", *(f"- {note}" for note in part["notes"])] if part["notes"] else []
    return "\n".join(parts) + "\n"


def _verdict(row: Row) -> str:
    return "" if row.is_met is None else "yes" if row.is_met else "**no**"


def _plain(row: Row) -> dict[str, Any]:
    return dataclasses.asdict(row) | {"ratio": row.ratio, "is_met": row.is_met}


def _read() -> dict[str, Any]:
    if not _DATA.is_file():
        return {}
    data = json.loads(_DATA.read_text(encoding="utf-8"))
    # A file of another shape is an older bench's.
    return {name: part for name, part in data.items() if isinstance(part, dict) and "rows" in part}


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=_HERE, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("diff", "HEAD", "--name-only", "--", ":/", f":!{_TABLE.name}", f":!{_PLOT.name}")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def _cpu() -> str:
    for each in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if each.startswith("model name"):
            return each.split(":", 1)[1].strip()
    return "an unknown CPU"
