"""A record to search in, and the oracle: what filters find, by reading every header."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import blind, entry, query, search
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.audit.search import Blinds, Filters, Name
from appliance.config import Home
from appliance.core import Caller, Delta, Outcome, Principal, Role, Usage
from tests.clocks import ManualClock
from tests.records import place

MONTH_SECONDS = 32 * 86_400
KEYS = ("one", "two", "three")
USERS = ("ann", "bob")
ADDRESSES = ("10.0.0.1", "10.0.0.2")
MODELS = ("m", "n")
NAMES: dict[str, Name] = {"key": "key", "user": "user", "session": "session", "address": "addr"}
THROUGH = (Kind.REQUEST_CLOSED, Kind.REQUEST_SEGMENT)


def write(home: Home) -> list[blind.IndexKey]:
    """Exchanges, refusals and readings of a few names over two months, and both months' index keys."""
    clock = ManualClock(2_000_000_000_000_000)
    keys = []
    for month in range(2):
        with open_log_alone(home, config.load(home), clock) as alone:
            opened: list[tuple[int, int]] = []
            for number in range(60):
                clock.advance(7)
                if number % 5 == 4:
                    alone.audit.append_sync(_refusal(number))
                    continue
                if number % 13 == 6:
                    alone.audit.append_sync(
                        Entry(kind=Kind.AUDIT_SEARCHED, content={"x": 1}, actor=KEYS[number % 3])
                    )
                opened.append((number, alone.audit.append_sync(_opening(month, number)).seq))
                if number % 3:  # some are closed at once, the others once the next ones are
                    _close(alone.audit.append_sync, month, opened)
            _close(alone.audit.append_sync, month, opened[:-1])  # one is closed by the next start, or never
            keys.append(blind.key_of(home, blind.month_of(clock.now_us())))
        clock.advance(MONTH_SECONDS)
    return keys


def _close(append: Any, month: int, opened: list[tuple[int, int]]) -> None:
    while opened:
        number, seq = opened.pop()
        request = f"req_{month}_{number}"
        if number % 4 == 0:
            append(entry.segment(request, seq, 0, Delta("x", 1), subject="s"))
        failed = number % 11 == 0
        append(
            entry.closed(
                request,
                seq,
                model=MODELS[number % 2],
                outcome=Outcome.FAILED if failed else Outcome.STOP if number % 3 else Outcome.LENGTH,
                code="engine_failed" if failed else "",
                usage=Usage(number, number * 2, 0),
                num_segments=int(number % 4 == 0),
                subject="s",
            )
        )


def _opening(month: int, number: int) -> Entry:
    return Entry(
        kind=Kind.REQUEST_OPENED,
        public={"endpoint": "chat", "model": MODELS[number % 2], "model_sha256": "0" * 64, "stream": 1},
        content={"messages": []},
        request_id=f"req_{month}_{number}",
        actor=KEYS[number % 3],
        user=USERS[number % 2] if number % 4 else None,
        session=f"s{number // 10}" if number % 2 else None,
        address=ADDRESSES[number % 7 == 0],
        subject="s",
    )


def _refusal(number: int) -> Entry:
    return entry.refused(
        request_id=f"req_r{number}",
        principal=Principal(KEYS[number % 3], "n", Role.KIOSK) if number % 2 else None,
        caller=Caller(ADDRESSES[number % 2]),
        route="/v1/x",
        code="engine_failed" if number % 10 == 9 else "not_found",
        status=404,
    )


def blinds_of(keys: list[blind.IndexKey], filters: Filters) -> Blinds:
    return {name: [key.blind(name, value) for key in keys] for name, value in filters.names.items()}


def matches(each: Record, filters: Filters, blinds: Blinds, openings: dict[int, Record]) -> bool:
    """The rule in words, over decoded headers: the oracle."""
    public = each.public
    ranges = [
        (name, getattr(filters, f"min_{name}"), getattr(filters, f"max_{name}"))
        for name in ("prompt_tokens", "completion_tokens")
    ]
    plain = (
        (filters.since_us is None or each.ts >= filters.since_us)
        and (filters.until_us is None or each.ts < filters.until_us)
        and (not filters.kinds or each.kind in filters.kinds)
        and (filters.request_id is None or each.request_id == filters.request_id)
        and (not filters.outcomes or public.get("outcome") in filters.outcomes)
        and (not filters.models or public.get("model") in filters.models)
        and (not filters.codes or public.get("code") in filters.codes)
        and all(
            (least is None and most is None)
            or (name in public and (least or 0) <= int(public[name]) <= (1 << 60 if most is None else most))
            for name, least, most in ranges
        )
    )
    if not plain or not filters.names:
        return plain
    named = each
    if each.kind in THROUGH:
        if not (filters.kinds or filters.asks_closings or filters.request_id):
            return False
        named = openings[each.header.prev] if each.header.prev is not None else each
    said = named.header.bi or {}
    return all(said.get(name) in {one.hex() for one in blinds[name]} for name in filters.names)


def expected(home: Home, filters: Filters, blinds: Blinds) -> list[int]:
    """Newest first."""
    records = query.search(place(home), limit=100_000)
    openings = {each.seq: each for each in records}
    return [each.seq for each in records if matches(each, filters, blinds, openings)]


def found(home: Home, filters: Filters, blinds: Blinds, *, limit: int = 1000, **options: Any) -> list[int]:
    """All pages."""
    seqs: list[int] = []
    cursor = None
    while True:
        page = search.search(place(home), filters, blinds, cursor=cursor, limit=limit, **options)
        seqs += [each.seq for each in page.records]
        cursor = page.next_cursor
        if cursor is None:
            return seqs


def maybe(values: Any) -> Any:
    return st.none() | values


def several(values: Any) -> Any:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


TIMES = st.integers(0, 2 * MONTH_SECONDS).map(lambda seconds: 2_000_000_000_000_000 + seconds * 1_000_000)
FILTERS: Any = st.builds(
    dict,
    since_us=maybe(TIMES),
    until_us=maybe(TIMES),
    kinds=several([Kind.REQUEST_OPENED, Kind.AUDIT_SEARCHED, Kind.REQUEST_REFUSED, *THROUGH]),
    outcomes=several(["stop", "failed", "length", "tool_calls"]),
    models=several([*MODELS, "none"]),
    codes=several(["engine_failed", "not_found", "none"]),
    request_id=maybe(st.sampled_from(["req_0_7", "req_1_8", "req_r9", "none"])),
    key=maybe(st.sampled_from([*KEYS, "nobody"])),
    user=maybe(st.sampled_from(USERS)),
    session=maybe(st.sampled_from(["s0", "s3"])),
    address=maybe(st.sampled_from(ADDRESSES)),
    min_prompt_tokens=maybe(st.integers(0, 70)),
    max_completion_tokens=maybe(st.integers(0, 140)),
)


def some_of(everything: dict[str, Any], keep: int) -> Filters:
    """A few of the drawn filters at once: all of them together find nothing. Times in order."""
    names = sorted(everything)
    kept = {name: everything[name] for number, name in enumerate(names) if keep >> number & 1}
    if (since := kept.get("since_us")) and (until := kept.get("until_us")) and since > until:
        kept["since_us"], kept["until_us"] = until, since
    return Filters(**kept)
