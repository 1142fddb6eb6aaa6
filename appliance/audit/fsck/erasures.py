"""Contents whose share is gone: erased by an entry that says so, or missing.

A share opens one subject's contents of one month. Its id stands in the entries; the share itself lies in
a file of its own (`audit/shares.py`), of which only the ids are looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.fsck.trusted import headers_before
from appliance.audit.kinds import Kind

_KINDS = frozenset({str(Kind.CONTENT_ERASED)})


class Erasures:
    """Erased shares by their entries: as many as there were ceremonies, and shares."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._source = reading.source
        self._report = reading.report
        self._headers = list(headers_before(reading, _KINDS))

    def take(self, block: Block) -> None:
        """Erasures."""
        self._headers += [header for header in block.acts if header.kind in _KINDS]

    def finish(self) -> None:
        """Every erased share belongs to an entry that counted and named it; every other is there."""
        erased: dict[Any, list[bytes]] = {}
        for share, seq in self._source.execute("SELECT share, seq FROM erasure"):
            erased.setdefault(seq, []).append(share if isinstance(share, bytes) else b"")
        explained: set[bytes] = set()
        for header in self._headers:
            ids = erased.pop(header.seq, [])
            digest = hashlib.sha256(b"".join(sorted(ids))).hexdigest()
            if len(ids) != header.pub.get("num_shares") or digest != header.pub.get("shares_sha256"):
                self._report.add("erasure", "the erased shares are not those of their entry", header.seq)
            explained.update(ids)
        for seq in sorted(erased, key=repr):
            where = seq if isinstance(seq, int) else None
            self._report.add("erasure", "shares are called erased by an entry that erased none", where)
        self._report.num_erased = self._count(explained)
        if self._reading.expected.shares is not None:
            self._look_for(explained)

    def _count(self, shares: set[bytes]) -> int:
        """Contents that these shares opened."""
        counts = (
            self._source.execute("SELECT count(*) FROM log_entry WHERE subj = ?", (share,))
            for share in shares
        )
        return sum(count for rows in counts for (count,) in rows)

    def _look_for(self, erased: set[bytes]) -> None:
        expected = self._reading.expected
        here = expected.shares() if expected.shares is not None else frozenset()
        for share in self._named():
            if share not in here and share not in erased:
                self._tell(share, "is missing")
            elif share in here and share in erased and not expected.may_be_open:
                self._tell(share, "was not erased")

    def _named(self) -> Iterator[Any]:
        """Each share that entries name, once: from one to the next along their index."""
        # Not min(): PostgreSQL has none for bytes before 18.
        first = "SELECT subj FROM log_entry WHERE subj IS NOT NULL ORDER BY subj LIMIT 1"
        following = "SELECT subj FROM log_entry WHERE subj > ? ORDER BY subj LIMIT 1"
        found = list(self._source.execute(first))
        while found:
            yield found[0][0]
            found = list(self._source.execute(following, found[0]))

    def _tell(self, share: Any, what: str) -> None:
        [(seq,)] = self._source.execute("SELECT min(seq) FROM log_entry WHERE subj = ?", (share,))
        self._report.add("shares", f"the share of contents from entry {seq} on {what}", seq)
