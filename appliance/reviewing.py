"""Reviews: an auditor looked through a span of the record. When that was last done, and whether it is due.

Reading a log is a duty of its own (NIST SP 800-53 AU-6); that it was done stands on the record too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit import query
from appliance.audit.entry import Entry, person_of
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.query import Record
from appliance.clock import Clock
from appliance.core import Caller, Principal, Receipt
from appliance.db import Place
from appliance.errors import RequestError

MAX_NOTE: Final = 2000
_DAY_US: Final = 86_400_000_000
_MAX_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Reviews:
    """The newest reviews, and how the record stands. `reviewed_to`: behind which no review reaches."""

    records: Sequence[Record]
    reviewed_to: int
    last_us: int | None
    is_due: bool
    days: int  # between two of them, at most


class Reviewing:
    """Holds nothing between two calls."""

    def __init__(self, *, audit: AuditLog, database: Place, clock: Clock, review_days: int) -> None:
        self._audit = audit
        self._database = database
        self._clock = clock
        self._days = review_days

    async def reviews(self) -> Reviews:
        """Due once the newest is older than `audit.review_days`, or where there is none at all."""
        found = await asyncio.to_thread(
            query.search, self._database, kind=Kind.AUDIT_REVIEWED, limit=_MAX_SHOWN
        )
        last_us = found[0].ts if found else None
        return Reviews(
            records=found,
            reviewed_to=max((int(each.public["end"]) for each in found), default=0),
            last_us=last_us,
            is_due=last_us is None or self._clock.now_us() - last_us > self._days * _DAY_US,
            days=self._days,
        )

    async def record(
        self,
        who: Principal,
        caller: Caller,
        *,
        begin: int,
        end: int,
        note: str,
        filters: Mapping[str, Any],
    ) -> Receipt:
        """That somebody looked through [begin, end). RequestError where the log has no such entries."""
        if not 0 <= begin < end <= self._audit.tree_size:
            raise RequestError("the span lies outside the record", code="invalid_span", param="begin")
        if len(note) > MAX_NOTE:
            raise RequestError(
                f"a note has at most {MAX_NOTE} characters", code="invalid_value", param="note"
            )
        return await self._audit.append(
            Entry(
                kind=Kind.AUDIT_REVIEWED,
                public={"begin": begin, "end": end},
                content={
                    "note": note,
                    "filters": dict(filters),
                    "principal": person_of(who),
                    "caller": caller.told(),
                },
                actor=who.key_id,
            )
        )
