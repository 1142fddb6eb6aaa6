"""What each key has had since a moment, counted from the record: the one place that no crash takes it from.

A request is its opening, which has the key's blind index; tokens stand in its closing, and count at the
time of that. An exchange that a crash left open has been closed without its tokens; whoever counts says
what such a one is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from appliance import db
from appliance.audit.blind import IndexKey
from appliance.audit.kinds import Kind
from appliance.audit.tables import log_entry
from appliance.core import Outcome
from appliance.db import Place


@dataclass(frozen=True, slots=True)
class Used:
    """Of one key. `num_recovered`: exchanges that a crash left open, whose tokens nobody knows."""

    num_requests: int = 0
    num_tokens: int = 0
    num_recovered: int = 0


def by_blind(place: Place, *, since_us: int, before_seq: int) -> dict[bytes, Used]:
    """By blind index of the key, in two walks along the openings and the closings of the time."""
    opening = log_entry.alias("opening")
    with db.reading(place) as connection:
        first = connection.execute(
            select(func.min(log_entry.c.seq)).where(log_entry.c.ts >= since_us)
        ).scalar_one()
        if first is None:
            return {}
        span = (log_entry.c.seq >= first, log_entry.c.seq < before_seq, log_entry.c.ts >= since_us)
        openings = connection.execute(
            select(log_entry.c.bi_key, func.count())
            .where(log_entry.c.kind == str(Kind.REQUEST_OPENED), log_entry.c.bi_key.is_not(None), *span)
            .group_by(log_entry.c.bi_key)
        ).all()
        closings = connection.execute(
            select(
                opening.c.bi_key,
                func.sum(log_entry.c.prompt_tokens + log_entry.c.completion_tokens),
                func.count().filter(log_entry.c.outcome == str(Outcome.RECOVERED)),
            )
            .join(opening, opening.c.seq == log_entry.c.prev)
            .where(log_entry.c.kind == str(Kind.REQUEST_CLOSED), opening.c.bi_key.is_not(None), *span)
            .group_by(opening.c.bi_key)
        ).all()
    requests = {bytes(blind): int(num) for blind, num in openings}
    ends = {bytes(blind): (int(tokens or 0), int(recovered)) for blind, tokens, recovered in closings}
    return {blind: Used(requests.get(blind, 0), *ends.get(blind, (0, 0))) for blind in {*requests, *ends}}


def of_keys(counted: Mapping[bytes, Used], index: IndexKey | None, keys: Iterable[str]) -> dict[str, Used]:
    """The same by the ids of these keys. Without the month's index key nobody was named this month."""
    if index is None:
        return {}
    blinds = {key: index.blind("key", key) for key in keys}
    return {key: counted[blind] for key, blind in blinds.items() if blind in counted}
