"""How much a reader has had: the record's own count of searches and readings within the last hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from appliance.audit import store
from appliance.audit.kinds import Kind
from appliance.audit.tables import log_entry

HOUR_US: Final = 3_600_000_000
ALARM: Final = "reading_volume"
SEARCHES: Final = frozenset({Kind.AUDIT_SEARCHED})
READS: Final = frozenset({Kind.AUDIT_READ, Kind.AUDIT_REPLAYED, Kind.AUDIT_RELEASED, Kind.AUDIT_EXPORTED})


@dataclass(frozen=True, slots=True)
class Volume:
    """One reader's hour. Times in microseconds, oldest first."""

    searches: Sequence[int]
    reads: Sequence[int]
    max_searches: int
    max_reads: int
    now_us: int
    is_told: bool  # whether the record says within this hour that it was too much

    @property
    def searches_left(self) -> int:
        return max(0, self.max_searches - len(self.searches))

    @property
    def reads_left(self) -> int:
        return max(0, self.max_reads - len(self.reads))

    def wait_seconds(self, kind: Kind) -> int:
        """How long until one more of this kind is within the limit; 0 where it is now."""
        had, most = (self.searches, self.max_searches) if kind in SEARCHES else (self.reads, self.max_reads)
        if len(had) < most:
            return 0
        return max(1, -(-(had[-most] + HOUR_US - self.now_us) // 1_000_000))


def look(connection: Connection, index: bytes | None, *, now_us: int, searches: int, reads: int) -> Volume:
    """What the entries of this blind index say; None for a month that has no index key yet.

    The hour that a month begins with counts anew: its entries have another index, whose key is gone.
    """
    begin = store.first_since(connection, now_us - HOUR_US)

    def times(kinds: frozenset[Kind], most: int) -> list[int]:
        query = (
            select(log_entry.c.ts)
            .where(
                log_entry.c.kind.in_([str(each) for each in sorted(kinds)]),
                log_entry.c.seq >= begin,
                log_entry.c.bi_key == index,
            )
            .order_by(log_entry.c.seq.desc())
            .limit(most)
        )
        return [] if index is None else list(connection.execute(query).scalars())[::-1]

    alarms = select(log_entry.c.seq).where(
        log_entry.c.kind == str(Kind.LOG_ALARM),
        log_entry.c.code == ALARM,
        log_entry.c.seq >= begin,
        log_entry.c.bi_key == index,
    )
    is_told = index is not None and connection.execute(alarms.limit(1)).first() is not None
    return Volume(times(SEARCHES, searches), times(READS, reads), searches, reads, now_us, is_told)
