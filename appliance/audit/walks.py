"""Walks along indexes, piece by piece: how a search finds its entries without ever being long at work.

A walk goes along one range of one index, in the order of places. Each step examines a bounded number of
entries, so it takes a bounded time, however few of them match. Several walks (one for each kind, one for each
month's blind index) are merged by how far the one that lags behind has come: what lies before that place is
settled. When the time is spent, the place is where a later search goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, Connection, Select, select

from appliance.audit.tables import log_entry
from appliance.clock import Clock

STEP_US: Final = 8_000  # what a step should take
FIRST_PIECE: Final = 1_024
MAX_PIECE: Final = 65_536

Conditions = Callable[[Any], list[ColumnElement[bool]]]  # of an entry's columns


@dataclass(slots=True)
class Budget:
    """Time to work. The clock is injected: a search of no time examines one piece of each walk."""

    clock: Clock
    until_us: int

    @classmethod
    def of(cls, clock: Clock, microseconds: int) -> Budget:
        """From now on."""
        return cls(clock, clock.monotonic_us() + microseconds)

    @property
    def left_us(self) -> int:
        """Negative where it is overdrawn."""
        return self.until_us - self.clock.monotonic_us()


@dataclass(frozen=True, slots=True)
class Span:
    """Places [low, high), and the direction in which they are walked."""

    low: int
    high: int
    oldest_first: bool = False

    @property
    def is_empty(self) -> bool:
        return self.low >= self.high

    def behind(self, seq: int) -> Span:
        """What is left once this place has been examined."""
        if self.oldest_first:
            return Span(max(self.low, seq + 1), self.high, oldest_first=True)
        return Span(self.low, min(self.high, seq))

    def limits(self, column: Any) -> list[ColumnElement[bool]]:
        return [column >= self.low, column < self.high]

    def order(self, column: Any) -> Any:
        return column.asc() if self.oldest_first else column.desc()

    def progress(self) -> int:
        """Grows with what has been examined."""
        return self.low if self.oldest_first else -self.high


class Walk(Protocol):
    """Something that finds places in the order of its span."""

    span: Span  # what is still to be examined
    found: list[int]

    def step(self, connection: Connection, want: int, budget: Budget) -> None:
        """Examine one piece more, or up to the `want`-th match in it."""
        ...


@dataclass(slots=True)
class IndexWalk:
    """Along the entries that `where` holds of, which one index gives in order; `matches` decides of each."""

    where: Sequence[ColumnElement[bool]]
    columns: Sequence[str]  # that `matches` looks at: where all are in the index, no entry is read
    matches: Conditions
    span: Span
    found: list[int] = field(default_factory=list)
    piece: int = FIRST_PIECE

    def step(self, connection: Connection, want: int, budget: Budget) -> None:
        began = budget.clock.monotonic_us()
        # The limit inside keeps the work bounded, and keeps the database from choosing another index.
        piece = self._walk(*(log_entry.c[name] for name in self.columns)).limit(self.piece).subquery()
        query = select(piece.c.seq).where(*self.matches(piece.c)).order_by(self.span.order(piece.c.seq))
        found = list(connection.execute(query.limit(want)).scalars())
        self.found += found
        if len(found) == want:
            self.span = self.span.behind(found[-1])
        else:
            ends = self._walk(log_entry.c.seq).limit(1).offset(self.piece - 1)
            last = connection.execute(ends).scalar_one_or_none()
            self.span = Span(0, 0) if last is None else self.span.behind(last)
        self._adapt(budget, budget.clock.monotonic_us() - began)

    def _walk(self, *columns: Any) -> Select[Any]:
        seq = log_entry.c.seq
        return select(*columns).where(*self.where, *self.span.limits(seq)).order_by(self.span.order(seq))

    def _adapt(self, budget: Budget, took_us: int) -> None:
        """The next piece takes about as long as a step should, or as there is time left."""
        aim = max(1, min(STEP_US, budget.left_us))
        factor = min(8.0, aim / max(1, took_us))
        self.piece = max(FIRST_PIECE // 4, min(MAX_PIECE, int(self.piece * factor)))


@dataclass(slots=True)
class WholeWalk:
    """One statement that finds everything, where it is known that there is little of it.

    It is sorted here: asked to sort, a database may choose to read what is in that order already, all of it.
    """

    query: Callable[[Span], Select[Any]]
    span: Span
    found: list[int] = field(default_factory=list)

    def step(self, connection: Connection, want: int, budget: Budget) -> None:
        del budget
        found = sorted(
            connection.execute(self.query(self.span)).scalars(), reverse=not self.span.oldest_first
        )
        self.found += found[:want]
        self.span = Span(0, 0)


def merge(
    connection: Connection, walks: Sequence[Walk], span: Span, want: int, budget: Budget
) -> tuple[list[int], Span]:
    """The first `want` places that any of the walks finds in the span, in its order; what is left of it.

    An empty span is left where everything has been examined. Fewer places than `want`, and something
    left: the budget is spent.
    """
    for walk in walks:  # each at least once: a search makes some progress, however slow the disk is
        walk.step(connection, want, budget)
    while True:
        running = [each for each in walks if not each.span.is_empty]
        found = sorted({seq for each in walks for seq in each.found}, reverse=not span.oldest_first)
        if not running:
            left = Span(0, 0)
            break
        slowest = min(running, key=lambda each: each.span.progress())
        left = slowest.span
        found = [seq for seq in found if not left.low <= seq < left.high]
        if len(found) >= want or budget.left_us <= 0:
            break
        slowest.step(connection, want, budget)
    if len(found) > want:
        found = found[:want]
    if len(found) == want and found:
        left = span.behind(found[-1])
    return found, left
