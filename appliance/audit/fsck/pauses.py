"""Pauses: within one boot of the log none is longer than its `log:started` promised (audit/pulse.py)."""

from __future__ import annotations

from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.pulse import Gaps


class Pauses:
    """A quiet log whose end or middle was cut off, or whose writer was held back."""

    def __init__(self, reading: Reading) -> None:
        self._report = reading.report
        self._gaps = Gaps()

    def take(self, block: Block) -> None:
        """Entry by entry only where the whole block took longer than a pause may, or a boot began."""
        if block.headers and self._gaps.spans(block.headers[0], block.headers[-1]):
            return
        for header in block.headers:
            if problem := self._gaps.take(header):
                self._report.add("log_entry", problem, header.seq)

    def finish(self) -> None:
        """Nothing is owed: the log may have ended at any moment."""
