"""Entries as they are stored: canonical headers, in place, in order, saying what their columns say.

Leaves are hashed here, from the header's bytes; the stored ones are only compared with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from operator import lt
from typing import Any

from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.fsck.tree import Nodes
from appliance.audit.header import Header, decode_header, decode_headers
from appliance.audit.kinds import Kind
from appliance.errors import VerificationError

BLOCK = 256  # entries at a time: so few stay in the processor's cache, and a query for each costs little
# (column, what the header says in its place); the facets are public fields, the rest blind indexes
_FACETS = ("model", "outcome", "code", "prompt_tokens", "completion_tokens")
_BLINDS = (("bi_key", "key"), ("bi_user", "user"), ("bi_session", "session"), ("bi_addr", "addr"))
_COLUMNS = ", ".join(
    ("hdr", "leaf", "seq", "ts", "kind", "req", "prev", "subj", *_FACETS, *(column for column, _ in _BLINDS))
)
_LIFE = frozenset(map(str, (Kind.REQUEST_OPENED, Kind.REQUEST_SEGMENT, Kind.REQUEST_CLOSED)))
_sha256 = hashlib.sha256

Row = tuple[Any, ...]


class Entries:
    """Reads the entries in order, and grows the tree by them."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._report = reading.report
        self._origin = reading.expected.verifier.name
        self._nodes = Nodes(reading.source, reading.report)
        self._last_ts = 0

    def blocks(self) -> Iterator[Block]:
        """All entries from the reading's begin on; the tree has grown when a block comes out."""
        reading, begin = self._reading, self._reading.begin
        source = reading.source
        if begin:
            rows = source.execute("SELECT ts FROM log_entry WHERE seq = ?", (begin - 1,))
            self._last_ts = next((ts for (ts,) in rows if isinstance(ts, int)), 0)
            for (seq,) in source.execute("SELECT seq FROM log_entry WHERE seq < 0"):
                self._report.add("log_entry", "the sequence has a gap or a stranger", seq)
        rows = source.execute(
            f"SELECT {_COLUMNS} FROM log_entry {'WHERE seq >= ?' if begin else ''} ORDER BY seq",  # noqa: S608
            (begin,) if begin else (),
        )
        while block := list(islice(rows, BLOCK)):
            end = begin + len(block)
            headers = self._check(block, begin)
            acts = [each for each in headers if each.kind not in _LIFE]
            yield Block(begin, end, headers, acts)
            begin = end
        self._nodes.count(begin)

    def _check(self, rows: list[Row], begin: int) -> list[Header]:
        """The block's headers, as far as they can be read; its leaves are in the tree afterwards."""
        data, stored, seqs, times, kinds, requests, openings, subjects, *more = zip(*rows, strict=True)
        facets, blinds = more[: len(_FACETS)], more[len(_FACETS) :]
        try:
            leaves = [_sha256(b"\x00" + each).digest() for each in data]
        except TypeError:
            leaves = [_sha256(b"\x00" + _as_bytes(each)).digest() for each in data]
        self._nodes.compare(self._reading.tree.extend(leaves))
        headers = decode_headers(data)
        # Whole columns are compared at once; who stands where is asked only where they differ.
        if (
            headers is not None
            and list(stored) == leaves
            and seqs == tuple(range(begin, begin + len(rows)))
            and [each.seq for each in headers] == list(seqs)
            and [each.ts for each in headers] == list(times)
            and [each.kind for each in headers] == list(kinds)
            and [each.req for each in headers] == list(requests)
            and [each.prev for each in headers] == list(openings)
            and [each.subj for each in headers] == list(map(_hex, subjects))
            and [each.ct is None for each in headers] == [each is None for each in subjects]
            and all(
                [each.pub.get(name) for each in headers] == list(column)
                for name, column in zip(_FACETS, facets, strict=True)
            )
            and all(
                [each.bi.get(name) if each.bi else None for each in headers] == list(map(_hex, column))
                for (_, name), column in zip(_BLINDS, blinds, strict=True)
            )
            and all(map(lt, (self._last_ts, *times), times))
            and all(each.log == self._origin for each in headers)
        ):
            self._last_ts = times[-1]
            return headers
        return self._one_by_one(rows, leaves, begin)

    def _one_by_one(self, rows: list[Row], leaves: list[bytes], begin: int) -> list[Header]:
        headers = []
        for position, (row, leaf) in enumerate(zip(rows, leaves, strict=True), begin):
            data, stored, number, *_ = row
            seq = number if isinstance(number, int) else None
            if seq != position:
                self._report.add("log_entry", "the sequence has a gap or a stranger", seq)
            if stored != leaf:
                self._report.add("log_entry", "the leaf is not the header's hash", seq)
            try:
                header = decode_header(_as_bytes(data))
            except VerificationError as error:
                self._report.add("log_entry", error.message, seq)
                continue
            self._compare(header, row)
            headers.append(header)
        return headers

    def _compare(self, header: Header, row: Row) -> None:
        _, _, seq, ts, kind, req, prev, subject, *more = row
        facets, blinds = more[: len(_FACETS)], more[len(_FACETS) :]
        columns = (seq, ts, kind, req, prev, _hex(subject), *facets, *map(_hex, blinds))
        if columns != _columns_of(header):
            self._report.add("log_entry", "a column differs from the header", header.seq)
        if (header.ct is None) != (header.subj is None):
            self._report.add("log_entry", "a content and the share that opens it go together", header.seq)
        if header.log != self._origin:
            self._report.add("log_entry", "the entry belongs to another log", header.seq)
        if header.ts <= self._last_ts:
            self._report.add("log_entry", "time runs backwards", header.seq)
        self._last_ts = header.ts


def _columns_of(header: Header) -> Row:
    blinded = header.bi or {}
    return (
        header.seq,
        header.ts,
        header.kind,
        header.req,
        header.prev,
        header.subj,
        *(header.pub.get(name) for name in _FACETS),
        *(blinded.get(name) for _, name in _BLINDS),
    )


def _hex(value: Any) -> Any:
    """Bytes as headers say them; a text where bytes belong is never equal to one."""
    if isinstance(value, bytes):
        return value.hex()
    return None if value is None else (value,)


def _as_bytes(value: Any) -> bytes:
    """A stored header; what is none has no canonical form, and is told where that is looked at."""
    return value if isinstance(value, bytes) else b""
