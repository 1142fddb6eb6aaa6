"""The log's sense of time: heartbeats while nothing happens, and steps of the wall clock. Pure.

A quiet log whose end was cut off looks like a quiet log: so it says at least once per
`audit.heartbeat_seconds` that it is there. Gaps are measured by the monotonic clock of one boot of
the log, because the wall clock may step; its steps are entries themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.audit.entry import Entry
from appliance.audit.header import Header
from appliance.audit.kinds import Kind

STEP_US: Final = 2_000_000
DOUBT_US: Final = 3_600_000_000  # a wall clock that is so far from where it began decides nothing for good
SILENT: Final = "silent"  # the code of the alarm that admits a gap
SLACK_US: Final = 60_000_000  # a busy machine, a slow commit: no gap of the record


@dataclass(frozen=True, slots=True)
class Steps:
    """What the wall clock did to itself since the start. Microseconds."""

    sum_us: int = 0  # forwards and back again is nothing
    last_us: int = 0  # the last step's size
    at_us: int | None = None  # when it was noticed, on the monotonic clock; None: there was none

    @property
    def are_doubtful(self) -> bool:
        """Whether the clock now tells another time than it would have by itself."""
        return abs(self.sum_us) > DOUBT_US


class ClockWatch:
    """Compares the two clocks from look to look. Owner: the log's writer; others read `steps`."""

    def __init__(self, heartbeat_seconds: int) -> None:
        self._allowed_us = heartbeat_seconds * 1_000_000 + SLACK_US
        self._offset_us: int | None = None  # wall minus monotonic at the last look
        self.steps = Steps()  # replaced, never changed

    def begin(self, last_ts_us: int, now_us: int) -> list[Entry]:
        """At a start: a clock that stands behind the record's last entry was set back meanwhile."""
        return [_stepped(last_ts_us, now_us)] if now_us < last_ts_us - STEP_US else []

    def look(self, now_us: int, monotonic_us: int, *, written_us: int) -> list[Entry]:
        """What is to be said of the time since the last look: a silence of our own, a step of the clock.

        `written_us` is the monotonic time of the last entry. A process that was stopped for hours has
        no other way to tell a silence that was not somebody's knife.
        """
        offset_us = now_us - monotonic_us
        before_us, self._offset_us = self._offset_us, offset_us
        said = []
        if monotonic_us - written_us > self._allowed_us:
            said.append(Entry(kind=Kind.LOG_ALARM, public={"code": SILENT}))
        if before_us is not None and abs(offset_us - before_us) > STEP_US:
            by_us = offset_us - before_us
            self.steps = Steps(self.steps.sum_us + by_us, by_us, monotonic_us)
            said.append(_stepped(monotonic_us + before_us, now_us))
        return said


def _stepped(expected_us: int, found_us: int) -> Entry:
    return Entry(kind=Kind.CLOCK_STEPPED, public={"expected_us": expected_us, "found_us": found_us})


class Gaps:
    """The verifier's rule: within one boot no pause is longer than its own `log:started` promised.

    The log itself may admit one, in the entry that ends it: that is on the record then.
    """

    def __init__(self) -> None:
        self._allowed_us: dict[str, int] = {}  # by boot; records of older releases promised nothing
        self._boot = ""
        self._mono = 0

    def spans(self, first: Header, last: Header) -> bool:
        """True, and taken, where everything up to `last` is one boot and came soon enough at once."""
        allowed_us = self._allowed_us.get(self._boot)
        if allowed_us is None or not first.boot == last.boot == self._boot:
            return False
        if last.mono - self._mono > allowed_us + SLACK_US:
            return False
        self._mono = last.mono
        return True

    def take(self, header: Header) -> str:
        """Look at the next entry; what is wrong with its distance from the one before, or nothing."""
        problem = ""
        if header.boot == self._boot:
            gap_us = header.mono - self._mono
            allowed_us = self._allowed_us.get(header.boot)
            is_admitted = header.kind == Kind.LOG_ALARM and header.pub.get("code") == SILENT
            if allowed_us is not None and gap_us > allowed_us + SLACK_US and not is_admitted:
                problem = f"the log was silent for {gap_us // 1_000_000} s before it: heartbeats are missing"
        self._boot, self._mono = header.boot, header.mono
        if "heartbeat_seconds" in header.pub:
            self._allowed_us[header.boot] = int(header.pub["heartbeat_seconds"]) * 1_000_000
        return problem
