"""What a bench hands back: rows of a table, and the ground that its subjects share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.peers import Choice


@dataclass(frozen=True)
class Row:
    """One figure, beside a peer's where there is one. The target bounds ours divided by the peer's."""

    label: str
    unit: str
    ours: float
    peer_name: str = ""
    peer: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def is_met(self) -> bool | None:
        """None where there is no target, or nothing to compare with."""
        if self.ratio is None:
            return None
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return self.ratio <= self.at_most if self.at_most is not None else None


@dataclass
class Run:
    """One run of the bench. `best` remembers llama-server's best settings by number of clients."""

    scratch: Path
    best: dict[int, Choice] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # of the subject that runs
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def say(self, text: str) -> None:
        """One line of progress."""
        print(f"  {text}", flush=True)

    def note(self, text: str) -> None:
        """A line of progress that belongs under the table, too."""
        self.say(text)
        self.notes.append(text)

    def folder(self) -> Path:
        """A place for one server."""
        return self.scratch / f"{next(self._numbers)}"


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile of a list that is not empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
