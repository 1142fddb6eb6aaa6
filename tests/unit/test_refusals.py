"""Refusals on their way to the record: none is lost at the stop, and a flood stays small."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from appliance.audit.entry import Entry
from appliance.audit.log import AuditLog
from appliance.core import Caller, Receipt
from appliance.refusals import Refusals
from tests.clocks import ManualClock


class SlowLog:
    """Takes its time for each entry, as a busy disk does."""

    is_ready = True

    def __init__(self) -> None:
        self.written: list[Entry] = []

    async def append(self, entry: Entry) -> Receipt:
        await asyncio.sleep(0.02)
        self.written.append(entry)
        return Receipt("test", len(self.written), b"")


async def test_stop_in_the_middle_of_a_flush_loses_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that are just being written when the appliance stops are written to the last."""
    monkeypatch.setattr("appliance.refusals.FLUSH_SECONDS", 0.01)
    audit = SlowLog()
    refusals = Refusals(cast("AuditLog", audit), ManualClock(), burst=1)
    for address in range(10):
        for _ in range(3):
            await refusals.record(
                request_id="r",
                principal=None,
                caller=Caller(str(address)),
                route="/v1",
                code="x",
                status=401,
            )
    refusals.start()
    await asyncio.sleep(0.08)  # the flush is on its third entry or so
    await refusals.stop()

    assert sum(int(entry.public["count"]) for entry in audit.written) == 30
