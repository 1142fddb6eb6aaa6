"""An entry that can not be written fails by itself: neither its batch nor the log falls with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.audit import sealing
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.errors import ApplianceError, InternalError
from tests.clocks import ManualClock
from tests.unit.audit.test_log import open_log, opening

NESTED: Any = []
for _ in range(100_000):
    NESTED = [NESTED]


def poison(public: dict[str, Any], content: dict[str, Any] | None = None) -> Entry:
    return Entry(kind=Kind.AUDIT_READ, public=public, content=content)


@pytest.mark.parametrize(
    ("public", "content"),
    [
        ({"target": 1 << 60}, None),
        ({"target": "x" * 70_000}, None),
        ({"target": "\ud800"}, None),
        ({"target": 1.5}, None),
        ({}, {"text": "\ud800"}),
        ({}, {"text": b"bytes"}),
        ({}, {"text": 10**5000}),
        ({}, {"text": NESTED}),
    ],
    ids=["integer", "length", "surrogate", "float", "content surrogate", "bytes", "digits", "depth"],
)
async def test_entry_that_can_not_be_written_fails_alone(
    home: Home, clock: ManualClock, public: dict[str, Any], content: dict[str, Any] | None
) -> None:
    """The bad entry is refused, its neighbours are durable, the log stays open."""
    log = open_log(home, clock)

    async def append_poison() -> None:
        await log.append(poison(public, content))

    results = await asyncio.gather(
        log.append(opening("req_1")), append_poison(), log.append(opening("req_2")), return_exceptions=True
    )
    assert log.is_ready
    log.close()

    assert isinstance(results[1], InternalError)
    assert not isinstance(results[0], ApplianceError)
    assert not isinstance(results[2], ApplianceError)


def test_content_that_nobody_could_open_is_not_sealed(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is larger than an auditor's program opens is refused, not buried."""
    monkeypatch.setattr(sealing, "_MAX_CONTENT_BYTES", 1000)
    log = open_log(home, clock)
    with pytest.raises(InternalError):
        log.append_sync(poison({}, {"text": "x" * 990}))
    log.close()
