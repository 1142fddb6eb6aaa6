"""Volume over time: how many exchanges ended how, and what else happened, for the filters of a search.

An exchange counts once, at its closing, by its outcome; every other entry by its kind; openings and
segments belong to their exchange and are not counted unless their kind is asked for. The newest time is
counted first, and where the time to work is spent before the oldest, the timeline says so. Where people
do not say when it begins and ends, its parts lie at whole milliseconds, as their forms hold them: a search
within a part finds what the part counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, select

from appliance import db
from appliance.audit import store
from appliance.audit.kinds import Kind
from appliance.audit.search import (
    FEW,
    THROUGH,
    Blinds,
    Filters,
    Name,
    column_of,
    conditions_of,
    count_of,
    kinds_of,
    of_openings,
    span_of,
)
from appliance.audit.tables import log_entry
from appliance.audit.walks import Budget, Span
from appliance.clock import Clock, SystemClock
from appliance.core import Outcome
from appliance.db import Place
from appliance.errors import RequestError

BUDGET_US: Final = 100_000
MAX_BUCKETS: Final = 400
_STEP_US: Final = 8_000
_GRAIN_US: Final = 1_000
_FIRST_PIECE: Final = 8_192  # places
_PARTS: Final = frozenset({Kind.REQUEST_OPENED, Kind.REQUEST_SEGMENT})


@dataclass(frozen=True, slots=True)
class Timeline:
    """`counts[i]` is of the `i`-th span of `bucket_us` from `begin_us` on: outcome or kind → number.

    What lies before `counted_from_us` was not counted where the timeline is not `complete`.
    """

    begin_us: int
    end_us: int
    bucket_us: int
    counts: tuple[dict[str, int], ...]
    complete: bool
    counted_from_us: int

    @property
    def total(self) -> dict[str, int]:
        """All buckets together."""
        found: dict[str, int] = {}
        for each in self.counts:
            for name, number in each.items():
                found[name] = found.get(name, 0) + number
        return found


def timeline(
    place: Place,
    filters: Filters,
    blinds: Blinds | None = None,
    *,
    buckets: int = 60,
    clock: Clock | None = None,
    budget_us: int = BUDGET_US,
) -> Timeline:
    """The filters' time in equal parts, or from the oldest entry to the newest where it is open."""
    if not 1 <= buckets <= MAX_BUCKETS:
        raise RequestError(f"a timeline has 1 to {MAX_BUCKETS} parts", code="invalid_search", param="buckets")
    if not filters.kinds:
        filters = replace(filters, kinds=tuple(sorted(set(Kind) - _PARTS)))
    with db.reading(place) as connection:
        budget = Budget.of(clock or SystemClock(), budget_us)
        span = span_of(connection, filters)
        begin_us, end_us = _times(connection, filters, span)
        bucket_us = _up(-(-(end_us - begin_us) // buckets))
        counting = _Counting(connection, filters, blinds or {}, span)
        counts: list[dict[str, int]] = [{} for _ in range(buckets)]
        edge = span.high  # everything from here on is counted
        for number, low, high in _parts(connection, span, begin_us, bucket_us, buckets):
            edge = counting.count(low, high, counts[number], budget)
            if edge > low:
                break
        is_complete = edge <= span.low
        counted_from = begin_us if is_complete else _ts(connection, edge, end_us)
    return Timeline(begin_us, end_us, bucket_us, tuple(counts), is_complete, counted_from)


class _Counting:
    """Counts slices of places, as long as there is time."""

    def __init__(self, connection: Connection, filters: Filters, blinds: Blinds, span: Span) -> None:
        self._sql = connection
        self._filters = filters
        self._blinds = blinds
        self._kinds = kinds_of(filters)
        self._driver: Name | None = None
        self._piece = _FIRST_PIECE
        self._closings: list[tuple[int, str]] | None = None  # of the few openings that have the name
        names = filters.names
        self._is_empty = span.is_empty or any(not blinds.get(name) for name in names)
        if names and not self._is_empty:
            numbers = {name: count_of(connection, name, blinds, span) for name in names}
            self._driver = driver = min(numbers, key=lambda name: numbers[name])
            is_few = numbers[driver] < FEW and filters.request_id is None
            if is_few and Kind.REQUEST_CLOSED in self._kinds:
                query = of_openings(filters, Kind.REQUEST_CLOSED, driver, blinds)(span)
                rows = connection.execute(query.add_columns(log_entry.c.outcome))
                self._closings = [(row.seq, row.outcome) for row in rows]

    def count(self, low: int, high: int, into: dict[str, int], budget: Budget) -> int:
        """Count the places [low, high) from their end on; the place down to which it came."""
        if self._is_empty:
            return low
        while low < high:
            if budget.left_us <= 0:
                return high
            began = budget.clock.monotonic_us()
            begin = max(low, high - self._piece)
            self._count(begin, high, into)
            took = max(1, budget.clock.monotonic_us() - began)
            aim = max(1, min(_STEP_US, budget.left_us))
            self._piece = max(512, min(1 << 22, int(self._piece * min(8.0, aim / took))))
            high = begin
        return low

    def _count(self, low: int, high: int, into: dict[str, int]) -> None:
        seq, kind = log_entry.c.seq, log_entry.c.kind
        span = [seq >= low, seq < high]
        if self._filters.request_id is not None:
            span.append(log_entry.c.req == self._filters.request_id)
        own = self._kinds - THROUGH
        if own:
            where = conditions_of(self._filters, own, self._blinds)(log_entry.c)
            if self._driver is not None:
                where.append(column_of(self._driver).in_(self._blinds[self._driver]))
            rows = self._sql.execute(select(kind, func.count()).where(*span, *where).group_by(kind))
            for name, number in rows:
                _add(into, name, number)
        if Kind.REQUEST_SEGMENT in self._kinds:
            where = [kind == str(Kind.REQUEST_SEGMENT), *span, *self._asked()]
            _add(into, str(Kind.REQUEST_SEGMENT), self._number(where))
        if self._closings is not None:
            for place, outcome in self._closings:
                if low <= place < high:
                    _add(into, outcome, 1)
        elif Kind.REQUEST_CLOSED in self._kinds:
            self._count_closings([kind == str(Kind.REQUEST_CLOSED), *span, *self._asked()], into)

    def _count_closings(self, where: list[ColumnElement[bool]], into: dict[str, int]) -> None:
        """Grouping sorts what it counts, so the most frequent outcome is what the others leave."""
        outcome = log_entry.c.outcome
        rows = self._sql.execute(
            select(outcome, func.count()).where(*where, outcome != str(Outcome.STOP)).group_by(outcome)
        ).all()
        for name, number in rows:
            _add(into, name, number)
        if not self._filters.outcomes or Outcome.STOP in self._filters.outcomes:
            _add(into, str(Outcome.STOP), self._number(where) - sum(number for _, number in rows))

    def _number(self, where: list[ColumnElement[bool]]) -> int:
        return self._sql.execute(select(func.count()).where(*where)).scalar_one()

    def _asked(self) -> list[ColumnElement[bool]]:
        conditions = conditions_of(self._filters, frozenset(Kind), self._blinds, through=True)
        return conditions(log_entry.c)


def _parts(
    connection: Connection, span: Span, begin_us: int, bucket_us: int, buckets: int
) -> Iterator[tuple[int, int, int]]:
    """(number, low, high) of each bucket, the newest first, as places."""
    high = span.high
    for number in range(buckets - 1, -1, -1):
        low = span.low
        if number:
            low = max(low, min(high, store.first_since(connection, begin_us + number * bucket_us)))
        yield number, low, high
        high = low


def _times(connection: Connection, filters: Filters, span: Span) -> tuple[int, int]:
    """The time that is shown: what the filters say, else what there is."""
    begin, end = filters.since_us, filters.until_us
    if begin is None:
        begin = 0 if span.is_empty else _ts(connection, span.low, 0) // _GRAIN_US * _GRAIN_US
    if end is None:
        end = begin + 1 if span.is_empty else _up(_ts(connection, span.high - 1, begin) + 1)
    return begin, max(end, begin + 1)


def _up(microseconds: int) -> int:
    return -(-microseconds // _GRAIN_US) * _GRAIN_US


def _ts(connection: Connection, seq: int, default: int) -> int:
    found = connection.execute(select(log_entry.c.ts).where(log_entry.c.seq == seq)).scalar_one_or_none()
    return default if found is None else found


def _add(into: dict[str, int], name: str, number: int) -> None:
    if number:
        into[name] = into.get(name, 0) + number
