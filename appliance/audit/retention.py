"""Retention: contents go when their time is over, not earlier, and their entries stay for ever. Pure.

What is removed is the ciphertext. The header, its leaf and every proof remain; an entry of its own says
which kind, up to which moment, and `verify` holds every missing content against these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.audit.holds import Hold
from appliance.audit.kinds import Kind
from appliance.errors import SetupError

MIN_DAYS: Final = 183  # six months: EU AI Act Art. 19 and 26(6)
MAX_DAYS: Final = 3660  # ten years
MAX_REMOVED: Final = 2000  # contents of one entry: the log's writer is not held up longer
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A content whose time is over."""

    seq: int
    ts: int
    share: bytes | None


def periods(settings: Mapping[str, int]) -> dict[Kind, int]:
    """Days by kind, from `audit.retention_days`. SetupError for an unknown kind or another span."""
    found = {}
    for name, days in settings.items():
        if name not in set(Kind):
            raise SetupError(
                f"audit.retention_days names an unknown kind of entry: {name}",
                code="bad_config",
                hint="appliance audit search --help lists the kinds",
            )
        if not MIN_DAYS <= days <= MAX_DAYS:
            raise SetupError(
                f"audit.retention_days: {name} is kept {MIN_DAYS} to {MAX_DAYS} days, or for ever where "
                "it is not named",
                code="bad_config",
            )
        found[Kind(name)] = days
    return found


def cutoff(now_us: int, days: int) -> int:
    """What was recorded before this moment has had its time."""
    return now_us - days * _DAY_US


@dataclass(frozen=True, slots=True)
class Removal:
    """Contents of one kind that go together: all of a span, but for those that a hold keeps."""

    kind: Kind
    from_ts: int
    before_ts: int
    seqs: tuple[int, ...]
    kept: str  # the numbers of the others, ascending, separated by spaces

    @property
    def kept_sha256(self) -> str:
        """What the entry commits to of them."""
        return hashlib.sha256(self.kept.encode()).hexdigest()


def removal(kind: Kind, found: Sequence[Candidate], due: Sequence[Candidate]) -> Removal:
    """The removal of what is due, of everything that was found."""
    begin, end = due[0].ts, due[-1].ts + 1
    gone = {each.seq for each in due}
    kept = sorted(each.seq for each in found if begin <= each.ts < end and each.seq not in gone)
    return Removal(kind, begin, end, tuple(each.seq for each in due), " ".join(map(str, kept)))


def removable(
    candidates: Sequence[Candidate], held: Iterable[Hold], held_shares: Iterable[bytes]
) -> list[Candidate]:
    """Without what a hold covers. `held_shares` are those of subjects that a hold names."""
    everybody = [each for each in held if each.is_active and not each.names_somebody]
    named = set(held_shares)
    return [
        each
        for each in candidates
        if each.share not in named and not any(hold.overlaps(each.ts, each.ts + 1) for hold in everybody)
    ]
