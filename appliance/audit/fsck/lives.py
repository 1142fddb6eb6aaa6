"""Requests: one opening, segments in order, exactly one closing.

Only what is open is kept. A request that was opened before the reading's begin is looked up when it
speaks again.
"""

from __future__ import annotations

from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.kinds import Kind

_OPENED, _SEGMENT, _CLOSED = (
    str(Kind.REQUEST_OPENED),
    str(Kind.REQUEST_SEGMENT),
    str(Kind.REQUEST_CLOSED),
)
_NO_OPENING = "it does not point to an opening, or lies behind its closing"
_BEGINNINGS = (str(Kind.LOG_STARTED), str(Kind.LOG_RECOVERED))


class Lives:
    """What is open at the moment."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._source = reading.source
        self._report = reading.report
        self._open: dict[str | None, int] = {}  # by request id: the opening's number
        self._segments: dict[str | None, int] = {}  # of those with any: how many so far
        self._num_names = 0  # request ids that should occur on the record
        self._looked_up: set[str] = set()  # what was open at the reading's begin, once it spoke

    def take(self, block: Block) -> None:
        """Each of a request's entries in its turn."""
        if self._reading.begin:
            self._look_up(block)
        opened, segments = self._open, self._segments
        for header in block.headers:
            kind, request = header.kind, header.req
            if kind == _OPENED:
                if request is None or request in opened:
                    self._report.add("log_entry", "an opening without a new request", header.seq)
                else:
                    opened[request] = header.seq
                self._num_names += 1
            elif kind == _CLOSED:
                if opened.pop(request, None) != header.prev or header.prev is None:
                    self._report.add("log_entry", _NO_OPENING, header.seq)
                if segments.pop(request, 0) != header.pub.get("num_segments"):
                    self._report.add("log_entry", "segments are missing", header.seq)
            elif kind == _SEGMENT:
                if opened.get(request) != header.prev or header.prev is None:
                    self._report.add("log_entry", _NO_OPENING, header.seq)
                index = segments.get(request, 0)
                if header.pub.get("index") != index:
                    self._report.add("log_entry", "segments are out of order", header.seq)
                segments[request] = index + 1
            elif request is not None:
                self._num_names += 1
            elif kind in _BEGINNINGS:
                self._end_all()  # whoever starts closes first what a crash left open

    def finish(self) -> None:
        """What is still open, and request ids that were opened twice."""
        self._report.num_open = len(self._open)
        if not self._reading.expected.may_be_open:
            self._end_all()
        if self._reading.begin == 0:
            [(found,)] = self._source.execute(
                "SELECT count(DISTINCT req) FROM log_entry WHERE req IS NOT NULL"
            )
            if found == self._num_names:
                return
        for (seq,) in self._source.execute(
            "SELECT seq FROM log_entry a WHERE a.kind = ? AND a.seq >= ? AND EXISTS "
            "(SELECT 1 FROM log_entry b WHERE b.req = a.req AND b.seq < a.seq)",
            (_OPENED, self._reading.begin),
        ):
            self._report.add("log_entry", "an opening without a new request", seq)

    def _look_up(self, block: Block) -> None:
        """Remember those that were opened before the reading's begin, and not closed by then."""
        begin = self._reading.begin
        for header in block.headers:
            request = header.req
            if header.prev is None or header.prev >= begin or request is None or request in self._looked_up:
                continue
            self._looked_up.add(request)
            before = list(
                self._source.execute(
                    "SELECT kind, seq FROM log_entry WHERE req = ? AND seq < ? ORDER BY seq", (request, begin)
                )
            )
            kinds = [kind for kind, _ in before]
            if before and kinds[0] == _OPENED and _CLOSED not in kinds:
                self._open[request] = before[0][1]
                self._segments[request] = kinds.count(_SEGMENT)

    def _end_all(self) -> None:
        for seq in self._open.values():
            self._report.add("log_entry", "a request was never closed", seq)
        self._open.clear()
        self._segments.clear()
