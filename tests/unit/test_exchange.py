"""An exchange towards its readers: read once, or told from the beginning to whoever asks again."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from appliance.core import (
    Caller,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ModelSpec,
    Principal,
    Receipt,
    Role,
    SamplingParams,
    Usage,
)
from appliance.errors import Unavailable
from appliance.exchange import Exchange

MODEL = ModelSpec(id="m", sha256="0" * 64, size_bytes=1, path=Path("/nowhere"))
END = Finished(FinishReason.STOP, Usage())


def exchange(*, is_kept: bool = False) -> Exchange:
    request = InferenceRequest("req", "m", (), SamplingParams())
    made = Exchange(request, Principal("k", "n", Role.KIOSK), Caller(""), MODEL, is_kept=is_kept)
    made.receipt = Receipt("origin", 3, b"leaf")
    return made


async def read(source: Exchange) -> list[str]:
    return [item.text if isinstance(item, Delta) else "end" async for item in source.events()]


async def test_a_kept_exchange_is_told_from_its_beginning_to_everybody() -> None:
    """Readers from before, from the middle and from behind the end hear the same."""
    kept = exchange(is_kept=True)
    early = asyncio.create_task(read(kept))
    await asyncio.sleep(0)
    kept.deliver(Delta("a"))
    await asyncio.sleep(0)
    middle = asyncio.create_task(read(kept))
    kept.deliver(Delta("b"))
    kept.finish(END)

    assert await early == await middle == await read(kept) == ["a", "b", "end"]


async def test_any_other_exchange_lets_go_of_what_was_read() -> None:
    """An answer is not held in memory twice while it is on its way."""
    plain = exchange()
    piece = Delta("a")
    plain.deliver(piece)
    events = plain.events()
    assert (await anext(events)) is piece
    # Deltas have slots and take no weak reference: who holds it is counted instead.
    held = [each for each in gc.get_referrers(piece) if isinstance(each, list)]
    assert held == []
    assert plain.num_bytes == 0


async def test_only_a_kept_exchange_goes_on_without_its_caller() -> None:
    """Goodbye ends an exchange that nobody can ask for again, and no other."""
    plain, kept = exchange(), exchange(is_kept=True)
    plain.gone()
    kept.gone()

    assert (plain.is_gone, plain.ended.is_set()) == (True, True)
    assert (kept.is_gone, kept.ended.is_set()) == (False, False)


async def test_a_failure_reaches_everybody_who_waits() -> None:
    """Those who wait for the prompt to be taken, and those who read, hear the same error."""
    kept = exchange(is_kept=True)
    waiting = asyncio.create_task(kept.accepted())
    reading = asyncio.create_task(read(kept))
    await asyncio.sleep(0)
    kept.fail(Unavailable("broken", code="engine_failed"))

    for task in (waiting, reading):
        with pytest.raises(Unavailable, match="broken"):
            await task
    assert kept.has_failed


async def test_an_exchange_is_gone_with_its_last_holder() -> None:
    """Nothing else keeps a finished one: whoever forgets it frees its memory."""
    kept = exchange(is_kept=True)
    kept.deliver(Delta("a" * 1000))
    kept.finish(END)
    assert kept.num_bytes >= 1000
    trace = weakref.ref(kept)
    del kept
    gc.collect()

    assert trace() is None
