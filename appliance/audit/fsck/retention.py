"""Contents whose time is over: gone behind an entry that says so. Holds are state rows (`state.py`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from appliance.audit.fsck.source import Source
from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.fsck.trusted import headers_before
from appliance.audit.header import Header
from appliance.audit.kinds import Kind

_KINDS = frozenset({str(Kind.RETENTION_APPLIED)})


@dataclass(frozen=True, slots=True)
class _Removal:
    """A span of one kind whose contents went, but for those that a hold kept."""

    seq: int  # of the entry that says so
    from_ts: int
    before_ts: int
    kept: frozenset[str]

    def covers(self, header: Header) -> bool:
        return (
            self.from_ts <= header.ts < self.before_ts
            and header.seq < self.seq
            and str(header.seq) not in self.kept
        )


class Removals:
    """The spans as the table tells them: `Retention` holds it against the entries."""

    def __init__(self, source: Source) -> None:
        self._spans: dict[Any, list[_Removal]] = {}
        self._last: dict[str, _Removal] = {}  # that covered something: what follows lies in it, mostly
        for seq, kind, from_ts, before_ts, kept in source.execute(
            "SELECT seq, kind, from_ts, before_ts, kept FROM retention"
        ):
            if all(isinstance(each, int) for each in (seq, from_ts, before_ts)) and isinstance(kept, str):
                removal = _Removal(seq, from_ts, before_ts, frozenset(kept.split()))
                self._spans.setdefault(kind, []).append(removal)

    def explain(self, header: Header) -> bool:
        """Whether an entry behind this one says that its content went."""
        last = self._last.get(header.kind)
        if last is not None and last.covers(header):
            return True
        found = next((each for each in self._spans.get(header.kind, ()) if each.covers(header)), None)
        if found is not None:
            self._last[header.kind] = found
        return found is not None


class Retention:
    """Removals by their entries: as many as there were, a few a day."""

    def __init__(self, reading: Reading) -> None:
        self._source = reading.source
        self._report = reading.report
        self._headers = list(headers_before(reading, _KINDS))

    def take(self, block: Block) -> None:
        """Removals."""
        self._headers += [header for header in block.acts if header.kind in _KINDS]

    def finish(self) -> None:
        """Each row is the one of its entry."""
        found = {}
        for seq, kind, from_ts, before_ts, kept in self._source.execute(
            "SELECT seq, kind, from_ts, before_ts, kept FROM retention"
        ):
            digest = hashlib.sha256(kept.encode()).hexdigest() if isinstance(kept, str) else ""
            found[seq] = (kind, from_ts, before_ts, digest)
        for header in self._headers:
            said = tuple(map(header.pub.get, ("of_kind", "from_ts", "before_ts", "kept_sha256")))
            if found.pop(header.seq, None) != said:
                self._report.add("retention", "the removal is not the one that its entry says", header.seq)
        for seq in found:
            where = seq if isinstance(seq, int) else None
            self._report.add("retention", "contents are called removed by no entry", where)
