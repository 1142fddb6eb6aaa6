"""Sealed contents: there, and what their headers commit to; none without a header."""

from __future__ import annotations

import hashlib
from itertools import zip_longest

from appliance.audit.fsck.retention import Removals
from appliance.audit.fsck.source import Rows
from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.header import Header

_NONCE_BYTES = 12
_sha256 = hashlib.sha256


class Contents:
    """Contents beside their headers, one in memory at a time."""

    def __init__(self, reading: Reading) -> None:
        self._source = reading.source
        self._report = reading.report
        self._tree = reading.tree
        self._removals = Removals(reading.source)

    def take(self, block: Block) -> None:
        """Both come in the order of their numbers; where they do not, each is looked for."""
        sealed = [header for header in block.headers if header.ct is not None]
        try:
            if all(
                header is not None
                and row is not None
                and header.seq == row[0]
                and header.ct is not None
                and header.ct.sha256 == _sha256(row[1] + row[2]).hexdigest()
                and header.ct.len == len(row[2])
                and len(row[1]) == _NONCE_BYTES
                for header, row in zip_longest(sealed, self._rows(block))
            ):
                return
        except TypeError:  # a text where bytes belong
            pass
        self._one_by_one(sealed, block)

    def _rows(self, block: Block) -> Rows:
        return self._source.execute(
            "SELECT seq, nonce, ct FROM log_payload WHERE seq >= ? AND seq < ? ORDER BY seq",
            (block.begin, block.end),
        )

    def _one_by_one(self, sealed: list[Header], block: Block) -> None:
        add = self._report.add
        awaited = {header.seq: header for header in sealed}
        for seq, nonce, ciphertext in self._rows(block):
            header = awaited.pop(seq, None)
            expected = header.ct if header is not None else None
            if expected is None:
                add("log_payload", "a content without a header", seq if isinstance(seq, int) else None)
                continue
            whole = isinstance(nonce, bytes) and isinstance(ciphertext, bytes)
            digest = _sha256(nonce + ciphertext).hexdigest() if whole else ""
            if digest != expected.sha256 or len(ciphertext) != expected.len:
                add("log_payload", "the content is not what its header says", seq)
            if whole and len(nonce) != _NONCE_BYTES:
                add("log_payload", "the nonce has another length", seq)
        for header in awaited.values():
            if self._removals.explain(header):
                self._report.num_removed += 1
            else:
                add("log_payload", "the content is missing", header.seq)

    def finish(self) -> None:
        """No content lies before the first entry or behind the last."""
        for (seq,) in self._source.execute(
            "SELECT seq FROM log_payload WHERE seq < 0 OR seq >= ?", (self._tree.size,)
        ):
            self._report.add(
                "log_payload", "a content without a header", seq if isinstance(seq, int) else None
            )
