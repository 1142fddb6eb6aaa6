"""Search: which entries a set of filters finds, page by page, and never a long wait.

Most filters are about the entry itself: its kind, its time, its request. Names (key, user, session,
address) are blind indexes in the entries that name somebody: openings, refusals, readings. Outcome, code
and tokens stand in closings. A name together with one of those means the exchange: the closings whose
*opening* has that name. So does a name with the kinds of segments and closings. A name alone finds the
entries that have it, one for each exchange.

Every filter walks along an index (`walks`). Where what is asked for is so rare that the time is spent
before the page is full, the page says how far it searched, and its cursor goes on from there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Select, func, select

from appliance import db
from appliance.audit import store
from appliance.audit.kinds import PUBLIC_FIELDS, Kind
from appliance.audit.query import Record, record_of
from appliance.audit.tables import log_entry
from appliance.audit.walks import Budget, Conditions, IndexWalk, Span, Walk, WholeWalk, merge
from appliance.clock import Clock, SystemClock
from appliance.db import Place
from appliance.errors import RequestError

BUDGET_US: Final = 50_000
MAX_LIMIT: Final = 1_000
MAX_CHOICES: Final = 100  # of one filter: more than there are kinds, which a timeline names all
MAX_CHARACTERS: Final = 512
FEW: Final = 2_000  # openings whose closings are looked up one by one

Name = Literal["key", "user", "session", "addr"]
Blinds = Mapping[Name, Sequence[bytes]]  # blind indexes of each name, of every month that is searched

_NAMES: Final[tuple[tuple[str, Name], ...]] = (
    ("key", "key"),
    ("user", "user"),
    ("session", "session"),
    ("address", "addr"),
)
_RANGES: Final = ("prompt_tokens", "completion_tokens")
THROUGH: Final = frozenset({Kind.REQUEST_SEGMENT, Kind.REQUEST_CLOSED})  # named by their opening
_FACETS: Final = (("outcomes", "outcome"), ("models", "model"), ("codes", "code"))
# What a walk along an index of names looks at in each entry; the other is all in its index.
_FACET_COLUMNS: Final = (
    "seq",
    "kind",
    "outcome",
    "model",
    "code",
    "prompt_tokens",
    "completion_tokens",
    "prev",
)
_COLUMNS: Final = (*_FACET_COLUMNS, "bi_key", "bi_user", "bi_session", "bi_addr")
_CURSOR = re.compile(r"1([no])(0|[1-9][0-9]{0,15})")


@dataclass(frozen=True, slots=True)
class Filters:
    """What is looked for: everything that is given must hold. Several of a sort: one of them.

    Times in microseconds, UTC: from `since_us` on, before `until_us`. Numbers of tokens are inclusive.
    RequestError for what can find nothing.
    """

    since_us: int | None = None
    until_us: int | None = None
    kinds: tuple[Kind, ...] = ()
    outcomes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    request_id: str | None = None
    key: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
    session: str | None = field(default=None, repr=False)
    address: str | None = field(default=None, repr=False)
    min_prompt_tokens: int | None = None
    max_prompt_tokens: int | None = None
    min_completion_tokens: int | None = None
    max_completion_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in (each.name for each in fields(self)):
            _check(name, getattr(self, name))
        for low, high in (("since_us", "until_us"), *((f"min_{each}", f"max_{each}") for each in _RANGES)):
            begin, end = getattr(self, low), getattr(self, high)
            if begin is not None and end is not None and begin > end:
                raise RequestError(f"{low} lies behind {high}", code="invalid_search", param=low)

    @property
    def names(self) -> dict[Name, str]:
        """Whom it names, by the fields of blind indexes."""
        return {blind: value for name, blind in _NAMES if (value := getattr(self, name)) is not None}

    @property
    def asks_closings(self) -> bool:
        """Whether something is asked that stands in closings."""
        tokens = any(getattr(self, f"{end}_{each}") is not None for each in _RANGES for end in ("min", "max"))
        return bool(self.outcomes or self.codes or tokens)

    def given(self) -> dict[str, Any]:
        """The filters that are set, by name: for the record (sealed), for forms, for saved searches."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: [str(one) for one in value] if isinstance(value, tuple) else value
            for name, value in said.items()
            if value not in (None, ())
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order. `next_cursor` is None behind the last one that there is.

    `searched_to_us` is given where the time was spent before the page was full: everything up to that
    moment has been searched, and the cursor goes on there. `names_since_us` is given by `Auditing` where
    names could be looked for from that moment on only.
    """

    records: tuple[Record, ...]
    next_cursor: str | None = None
    searched_to_us: int | None = None
    names_since_us: int | None = None


def search(
    place: Place,
    filters: Filters,
    blinds: Blinds | None = None,
    *,
    cursor: str | None = None,
    limit: int = 50,
    oldest_first: bool = False,
    clock: Clock | None = None,
    budget_us: int = BUDGET_US,
) -> Page:
    """One page. `blinds` has what stands for each of the filters' names. RequestError for a bad cursor.

    Reads headers only: no auditor's key is needed.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise RequestError(f"a page has 1 to {MAX_LIMIT} entries", code="invalid_search", param="limit")
    with db.reading(place) as connection:
        budget = Budget.of(clock or SystemClock(), budget_us)
        span = span_of(connection, filters, oldest_first=oldest_first)
        if cursor is not None:
            span = _resume(span, cursor)
        walks = [] if span.is_empty else walks_of(connection, filters, blinds or {}, span)
        found, left = merge(connection, walks, span, limit + 1, budget)
        has_more = len(found) > limit
        if has_more:
            found = found[:limit]
            left = span.behind(found[-1])
        records = _records(connection, found)
        searched_to = None
        if not has_more and not left.is_empty:
            at = left.low if oldest_first else left.high - 1
            searched_to = connection.execute(
                select(log_entry.c.ts).where(log_entry.c.seq == at)
            ).scalar_one_or_none()
    return Page(
        records=tuple(records),
        next_cursor=None if left.is_empty else _cursor(left),
        searched_to_us=searched_to,
    )


def span_of(connection: Connection, filters: Filters, *, oldest_first: bool = False) -> Span:
    """The places of the time that is searched."""
    low = 0 if filters.since_us is None else store.first_since(connection, filters.since_us)
    high = (
        store.end(connection) if filters.until_us is None else store.first_since(connection, filters.until_us)
    )
    return Span(low, high, oldest_first)


def walks_of(connection: Connection, filters: Filters, blinds: Blinds, span: Span) -> list[Walk]:
    """The walks that find together what the filters ask for. None: they can find nothing."""
    names = tuple(filters.names)
    kinds = kinds_of(filters)
    if any(not blinds.get(name) for name in names):
        return []
    if filters.request_id is not None:
        where = [log_entry.c.req == filters.request_id]
        own = [IndexWalk(where, _COLUMNS, conditions_of(filters, kinds - THROUGH, blinds), span)]
        opened = [
            IndexWalk(where, _COLUMNS, conditions_of(filters, kinds & THROUGH, blinds, through=True), span)
        ]
        return [*own, *(opened if kinds & THROUGH else ())]
    if not names:
        return _walks_of_kinds(filters, kinds, span)
    numbers = {name: count_of(connection, name, blinds, span) for name in names}
    driver = min(numbers, key=lambda name: numbers[name])
    own_kinds = kinds - THROUGH
    walks: list[Walk] = [
        IndexWalk([column_of(driver) == blind], _COLUMNS, conditions_of(filters, own_kinds, blinds), span)
        for blind in (blinds[driver] if own_kinds else ())
    ]
    for kind in sorted(kinds & THROUGH) if filters.kinds or filters.asks_closings else ():
        few = FEW if kind is Kind.REQUEST_CLOSED else FEW // 10
        if numbers[driver] < few:
            walks.append(WholeWalk(of_openings(filters, kind, driver, blinds), span))
        else:
            conditions = conditions_of(filters, frozenset({kind}), blinds, through=True)
            walks.append(IndexWalk([log_entry.c.kind == str(kind)], _FACET_COLUMNS, conditions, span))
    return walks


def kinds_of(filters: Filters) -> frozenset[Kind]:
    """The kinds whose headers can say what is asked for."""
    asked = {name for many, name in _FACETS if getattr(filters, many)}
    asked |= {
        name
        for name in _RANGES
        if getattr(filters, f"min_{name}") is not None or getattr(filters, f"max_{name}") is not None
    }
    return frozenset(kind for kind in filters.kinds or Kind if asked <= PUBLIC_FIELDS[kind])


def column_of(name: Name) -> Any:
    """The column of a name's blind indexes."""
    return log_entry.c[f"bi_{name}"]


def facets(filters: Filters, columns: Any) -> list[ColumnElement[bool]]:
    """What is asked of an entry's own public fields, but for its kind."""
    found = [columns[name].in_(getattr(filters, many)) for many, name in _FACETS if getattr(filters, many)]
    for name in _RANGES:
        if (least := getattr(filters, f"min_{name}")) is not None:
            found.append(columns[name] >= least)
        if (most := getattr(filters, f"max_{name}")) is not None:
            found.append(columns[name] <= most)
    return found


def _walks_of_kinds(filters: Filters, kinds: frozenset[Kind], span: Span) -> list[Walk]:
    if len(kinds) == len(Kind):
        return [IndexWalk([], ("seq",), lambda _columns: [], span)]
    return [
        IndexWalk(
            [log_entry.c.kind == str(kind)], _FACET_COLUMNS, lambda columns: facets(filters, columns), span
        )
        for kind in sorted(kinds)
    ]


def conditions_of(
    filters: Filters, kinds: frozenset[Kind], blinds: Blinds, *, through: bool = False
) -> Conditions:
    """What decides of an entry: `through` its opening's names, or by its own."""

    def conditions(columns: Any) -> list[ColumnElement[bool]]:
        found = facets(filters, columns)
        if len(kinds) < len(Kind):
            found.append(columns.kind.in_([str(each) for each in sorted(kinds)]))
        if through and filters.names:
            opening = log_entry.alias("opening")
            named = [opening.c[f"bi_{name}"].in_(blinds[name]) for name in filters.names]
            found.append(select(opening.c.seq).where(opening.c.seq == columns.prev, *named).exists())
        elif filters.names:
            found += [columns[f"bi_{name}"].in_(blinds[name]) for name in filters.names]
        return found

    return conditions


def of_openings(filters: Filters, kind: Kind, driver: Name, blinds: Blinds) -> Any:
    """The entries of one kind that belong to the few openings which have a name."""
    opening, last = log_entry.alias("opening"), log_entry.alias("last")

    def query(span: Span) -> Select[Any]:
        named = [opening.c[f"bi_{name}"].in_(blinds[name]) for name in filters.names]
        found = (
            select(opening.c.seq, opening.c.req)
            .where(opening.c[f"bi_{driver}"].in_(blinds[driver]), *named, opening.c.req.is_not(None))
            .limit(FEW)
            .subquery()
        )
        match = [log_entry.c.prev == found.c.seq, log_entry.c.kind == str(kind)]
        if kind is Kind.REQUEST_CLOSED:  # nothing of a request follows its closing
            end = select(func.max(last.c.seq)).where(last.c.req == found.c.req).scalar_subquery()
            joined = log_entry.c.seq == end
        else:
            joined = log_entry.c.req == found.c.req
        seq = log_entry.c.seq
        return (
            select(seq)
            .select_from(found.join(log_entry, joined))
            .where(*match, *facets(filters, log_entry.c), *span.limits(seq))
        )

    return query


def count_of(connection: Connection, name: Name, blinds: Blinds, span: Span) -> int:
    """How many entries have a name, counted up to a bound. Openings lie before their closings."""
    column = column_of(name)
    some = select(log_entry.c.seq).where(column.in_(blinds[name]), log_entry.c.seq < span.high).limit(FEW)
    return connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()


def _records(connection: Connection, seqs: Sequence[int]) -> list[Record]:
    found: dict[int, Record] = {}
    for start in range(0, len(seqs), 500):  # parameters of one statement
        some = seqs[start : start + 500]
        for row in connection.execute(
            select(log_entry.c.seq, log_entry.c.hdr).where(log_entry.c.seq.in_(some))
        ):
            found[row.seq] = record_of(row.hdr)
    return [found[seq] for seq in seqs]


def _cursor(left: Span) -> str:
    text = f"1o{left.low}" if left.oldest_first else f"1n{left.high}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _resume(span: Span, cursor: str) -> Span:
    """What is left of the span behind a page. A cursor is a place: filters may even change between pages."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor() from error
    match = _CURSOR.fullmatch(text)
    if match is None or (match[1] == "o") != span.oldest_first:
        raise _bad_cursor()
    at = int(match[2])
    low, high = (max(span.low, at), span.high) if span.oldest_first else (span.low, min(span.high, at))
    left = Span(low, high, span.oldest_first)
    if _cursor(Span(at, at, span.oldest_first)) != cursor:
        raise _bad_cursor()  # one place has one cursor
    return left


def _bad_cursor() -> RequestError:
    return RequestError(
        "the cursor is not one that a page of this order gave",
        code="invalid_cursor",
        param="cursor",
        hint="send next_cursor as it came, with the same order, or begin without one",
    )


def _check(name: str, value: Any) -> None:
    match value:
        case tuple():
            right = len(value) <= MAX_CHOICES and all(1 <= len(each) <= MAX_CHARACTERS for each in value)
        case str():
            right = 1 <= len(value) <= MAX_CHARACTERS
        case int():
            right = 0 <= value < 1 << 53
        case _:
            right = value is None
    if not right:
        raise RequestError(f"{name} can not be searched for", code="invalid_search", param=name)
