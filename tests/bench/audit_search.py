"""First pages over a record of a million entries: every filter, and the worst combinations of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from appliance.audit import blind, query
from appliance.audit.kinds import Kind
from appliance.audit.search import Blinds, Filters, search
from appliance.audit.timeline import timeline
from appliance.config import Home
from tests.bench import audit_log
from tests.bench.figures import Row, Run, percentile

_T = TypeVar("_T")

RUNS = 20
TARGET_MS = 100.0
HEAVY = audit_log.actor_of(0)  # a third of everything
LIGHT = audit_log.actor_of(7)


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked for, and what stands for its names."""

    label: str
    filters: Filters
    blinds: Blinds = field(default_factory=dict)


def run(run: Run, home: Home) -> list[Row]:
    """One row for each sort of search, with the target beside it."""
    rows = []
    for case in cases(home):
        times, searched = _times(home, case)
        note = "" if searched is None else f", of which {searched:.0%} of the record within the time"
        rows.append(_row(f"first page by {case.label}{note}, p95", percentile(times, 0.95)))
    for case in cases(home):
        if case.label in _COUNTED:
            took, complete = _timeline(home, case)
            note = "" if complete else " (as far as the time goes)"
            rows.append(_row(f"timeline of {case.label}{note}, p95", percentile(took, 0.95), most=None))
    run.note(
        f"first pages of 50 entries, each {RUNS} times: {HEAVY} asked a third of all requests, and nobody "
        "ever used a tool; what no index finds is searched for about 50 ms, and the page says how far"
    )
    return rows


_COUNTED = ("nothing", f"{HEAVY}", "failures", "a user")


def cases(home: Home) -> list[Case]:
    """Each filter alone, then the combinations that no index serves."""
    newest = query.search(home.database, limit=1)[0].ts
    oldest = query.search(home.database, before_seq=100, limit=1)[0].ts
    request = query.search(home.database, kind=Kind.REQUEST_CLOSED, limit=1)[0].request_id
    key = blind.key_of(home, blind.month_of(newest))

    def named(label: str, **filters: object) -> Case:
        asked = Filters(**filters)  # type: ignore[arg-type]
        return Case(label, asked, {name: [key.blind(name, each)] for name, each in asked.names.items()})

    return [
        named("nothing"),
        named("time", since_us=oldest, until_us=(oldest + newest) // 2),
        named("kind", kinds=(Kind.REQUEST_OPENED,)),
        named("a kind that is rare", kinds=(Kind.EPOCH_OPENED,)),
        named("failures", outcomes=("failed",)),
        named("an outcome that never was", outcomes=("tool_calls",)),
        named("a code of one request in 100,000", codes=("out_of_memory",)),
        named("model", models=audit_log.MODELS[:1]),
        named("a model that is rare", models=audit_log.MODELS[1:]),
        named("numbers of tokens", min_prompt_tokens=1_000, max_completion_tokens=30),
        named("tokens that never were", min_prompt_tokens=1_000_000),
        named("request", request_id=request),
        named("key", key=LIGHT),
        named(f"{HEAVY}", key=HEAVY),
        named("a user", user="citizen-77"),
        named("session", session="session-4711"),
        named("address", address="10.0.3.17"),
        named("a key and its failures", key=LIGHT, outcomes=("failed",)),
        named(f"{HEAVY} and failures", key=HEAVY, outcomes=("failed",)),
        named(f"{HEAVY} and what never was", key=HEAVY, outcomes=("tool_calls",)),
        named(f"{HEAVY} and a model that is rare", key=HEAVY, models=audit_log.MODELS[1:]),
        named(f"{HEAVY}, an address and lengths", key=HEAVY, address="10.0.3.17", outcomes=("length",)),
        named(f"{HEAVY} and somebody else's session", key=HEAVY, session="session-1"),
    ]


def _times(home: Home, case: Case) -> tuple[list[float], float | None]:
    """Milliseconds of each run, and the share of the record's time that a page without time covered."""
    times = []
    searched: float | None = None
    newest = query.search(home.database, limit=1)[0].ts
    oldest = query.search(home.database, before_seq=100, limit=1)[0].ts
    for _ in range(RUNS):
        took, page = _timed(lambda: search(home.database, case.filters, case.blinds))
        times.append(took)
        if page.searched_to_us is not None:
            share = (newest - page.searched_to_us) / (newest - oldest)
            searched = share if searched is None else min(searched, share)
    return times, searched


def _timeline(home: Home, case: Case) -> tuple[list[float], bool]:
    done = [_timed(lambda: timeline(home.database, case.filters, case.blinds)) for _ in range(RUNS)]
    return [took for took, _ in done], all(found.complete for _, found in done)


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    began = time.perf_counter()
    done = work()
    return (time.perf_counter() - began) * 1000, done


def _row(label: str, value: float, *, most: float | None = TARGET_MS) -> Row:
    return Row(
        label,
        "ms",
        value,
        peer_name="target" if most else "",
        peer=most,
        at_most=1 if most else None,
    )
