"""The fleet: what is loaded for whom, who waits, what is told of a failure. Its workers are pretended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from appliance.catalog import Catalog
from appliance.clock import SystemClock
from appliance.core import Adapter, ModelSpec
from appliance.engine.events import ModelLoaded
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import RequestError, Unavailable
from appliance.fleet import Fleet
from tests.pretended import MIB, Heard, Pretended, PretendedHands


@pytest.fixture
def hands(tmp_path: Path) -> PretendedHands:
    """Models a to d in the store, a pinned."""
    specs = {}
    for name in "abcd":
        (tmp_path / name).write_bytes(b"x")
        specs[name] = ModelSpec(id=name, sha256=name * 64, size_bytes=1, path=tmp_path / name)
    return PretendedHands(specs, ["a"])


@contextlib.asynccontextmanager
async def running(hands: PretendedHands, *, mib: int = 20) -> AsyncIterator[Fleet]:
    """A fleet with room for two models."""
    fleet = Fleet(
        catalog=Catalog(list(hands.specs.values())),
        settings=EngineSettings(turn_seconds=1),
        budget_bytes=mib * MIB,
        clock=SystemClock(),
        hands=hands,
    )
    fleet.start()
    try:
        yield fleet
    finally:
        await fleet.stop()
        assert fleet.used_bytes == 0


async def settled(fleet: Fleet, *models: str) -> None:
    """Until exactly these are ready, and nothing else is there."""
    async with asyncio.timeout(5):
        while {each for each, engine in fleet.engines.items() if engine.is_ready} != set(models) or len(
            fleet.engines
        ) != len(models):
            await asyncio.sleep(0.005)


async def test_a_pinned_model_is_there_from_the_start_and_others_come_when_asked(
    hands: PretendedHands,
) -> None:
    """Each file is hashed at each load; the record says why each came and went."""
    async with running(hands) as fleet:
        await settled(fleet, "a")
        async with fleet.lease(hands.specs["b"], seconds=5) as engine:
            assert engine.spec.id == "b"
        async with fleet.lease(hands.specs["c"], seconds=5):
            assert set(fleet.engines) == {"a", "c"}
        async with fleet.lease(hands.specs["b"], seconds=5):
            pass
        assert hands.num_hashed == 4
        assert [fleet.standing(each).state for each in hands.specs.values()] == [
            "ready",
            "ready",
            "unloaded",
            "unloaded",
        ]
    assert hands.said()[:6] == [
        ("loaded", "a", "start"),
        ("loaded", "b", "demand"),
        ("unloaded", "b", "room"),
        ("loaded", "c", "demand"),
        ("unloaded", "c", "room"),
        ("loaded", "b", "demand"),
    ]
    assert sorted(hands.said()[6:]) == [("unloaded", "a", "stop"), ("unloaded", "b", "stop")]


async def test_a_model_that_answers_stays_until_its_last_answer(hands: PretendedHands) -> None:
    """Who asks another one waits for it, behind a turn; then the busy one begins nothing more."""
    async with running(hands) as fleet:
        await settled(fleet, "a")
        async with contextlib.AsyncExitStack() as answering:
            await answering.enter_async_context(fleet.lease(hands.specs["b"], seconds=5))
            other = asyncio.create_task(held(fleet, hands.specs["c"]))
            assert fleet.is_open("b")
            async with asyncio.timeout(5):
                while fleet.is_open("b"):  # its turn is over after a second
                    await asyncio.sleep(0.01)
            assert fleet.engines["b"].is_ready
            assert not other.done()
            again = asyncio.create_task(held(fleet, hands.specs["b"]))
            await asyncio.sleep(0.02)
            assert not again.done()
        assert await other == "c"
        assert await again == "b"


async def held(fleet: Fleet, spec: ModelSpec) -> str:
    async with fleet.lease(spec, seconds=5) as engine:
        return engine.spec.id


async def test_who_leaves_before_the_load_is_waited_for_no_longer(hands: PretendedHands) -> None:
    """A model that was held for them is open again."""
    async with running(hands) as fleet:
        await settled(fleet, "a")
        async with fleet.lease(hands.specs["b"], seconds=5):
            claim = fleet.want(hands.specs["c"])
            async with asyncio.timeout(5):
                while fleet.is_open("b"):
                    await asyncio.sleep(0.01)
            fleet.drop(claim)
            fleet.drop(claim)
            async with asyncio.timeout(5):
                while not fleet.is_open("b"):
                    await asyncio.sleep(0.01)


async def test_a_file_that_was_altered_is_refused_at_every_load(hands: PretendedHands) -> None:
    """At the first load and at a later one: who waits hears it at once, and the next try comes later."""
    heard = Heard()
    async with running(hands) as fleet:
        fleet.listen(heard)
        await settled(fleet, "a")
        async with fleet.lease(hands.specs["b"], seconds=5):
            pass
        async with fleet.lease(hands.specs["c"], seconds=5):
            pass
        hands.altered.add("b")
        with pytest.raises(Unavailable) as refused:
            await held(fleet, hands.specs["b"])
        assert refused.value.code == "model_not_ready"
        assert refused.value.retry_after_seconds >= 2
        assert [each for each, _ in heard.failures] == ["b"]
        await settled(fleet, "a")
        num_hashed = hands.num_hashed
        with pytest.raises(Unavailable):
            await held(fleet, hands.specs["b"])
        assert hands.num_hashed == num_hashed
        assert not fleet.standing(hands.specs["b"]).can_be_asked
    assert ("failed", "b", "model_altered") in hands.said()
    assert ("unloaded", "b", "failed") in hands.said()


async def test_a_model_larger_than_its_room_is_refused_with_the_numbers(hands: PretendedHands) -> None:
    """Once on the record; another one goes on, and names that change make it worth another try."""
    hands.needs["b"] = 11
    async with running(hands) as fleet:
        await settled(fleet, "a")
        for _ in range(2):
            with pytest.raises(RequestError, match="11 MiB of memory, and there are 10 MiB") as refused:
                await held(fleet, hands.specs["b"])
            assert refused.value.code == "model_does_not_fit"
        assert await held(fleet, hands.specs["c"]) == "c"
        assert hands.said().count(("failed", "b", "model_does_not_fit")) == 1
        hands.pins.clear()
        fleet.review()
        assert await held(fleet, hands.specs["b"]) == "b"


async def test_what_comes_to_be_pinned_is_loaded(hands: PretendedHands) -> None:
    """An alias that moves: its new model comes for activation, the old one may go."""
    async with running(hands) as fleet:
        await settled(fleet, "a")
        hands.pins[:] = ["b", "c"]
        fleet.review()
        await settled(fleet, "b", "c")
    assert hands.said()[1:4] == [
        ("loaded", "b", "activation"),
        ("unloaded", "a", "room"),
        ("loaded", "c", "activation"),
    ]


async def test_a_pinned_model_keeps_its_engine_through_a_failure(hands: PretendedHands) -> None:
    """The engine tries again by itself; whoever asks meanwhile is told to come back."""
    async with running(hands) as fleet:
        await settled(fleet, "a")
        engine = cast("Pretended", fleet.engines["a"])
        engine.die("worker_died", "it is gone")
        assert set(fleet.engines) == {"a"}
        assert not fleet.is_open("a")
        with pytest.raises(Unavailable):
            await held(fleet, hands.specs["a"])


async def test_a_file_is_hashed_beside_the_loop_and_says_how_far_it_is(hands: PretendedHands) -> None:
    """Others go on meanwhile; the first load after the caller's own hash needs none."""
    hands.gate = asyncio.Event()
    async with running(hands) as fleet:
        waiting = asyncio.create_task(held(fleet, hands.specs["a"]))
        async with asyncio.timeout(5):
            while fleet.standing(hands.specs["a"]).state != "loading":
                await asyncio.sleep(0.005)
        hands.gate.set()
        assert await waiting == "a"
    loaded = next(each for each in hands.events if isinstance(each, ModelLoaded))
    assert loaded.verify_us > 0

    hands.num_hashed = 0
    fleet = Fleet(
        catalog=Catalog(list(hands.specs.values())),
        settings=EngineSettings(),
        budget_bytes=20 * MIB,
        clock=SystemClock(),
        hands=hands,
    )
    fleet.start(verified=hands.specs["a"])
    await settled(fleet, "a")
    await fleet.stop()
    assert hands.num_hashed == 0


@pytest.mark.parametrize("seed", range(3))
async def test_many_questions_over_four_models_in_a_budget_for_two(hands: PretendedHands, seed: int) -> None:
    """None is lost, the budget holds at every moment, and no model leaves while it answers."""
    hands.pins[:] = []
    answering: dict[str, int] = dict.fromkeys("abcd", 0)
    order = itertools.cycle("abcd" if seed == 0 else "aabacda" if seed == 1 else "dcbbaab")

    async def ask(number: int) -> None:
        spec = hands.specs[next(order)]
        await asyncio.sleep(number % 7 / 50)
        async with fleet.lease(spec, seconds=20) as engine:
            answering[spec.id] += 1
            for _ in range(3):
                await asyncio.sleep(0.005)
                assert engine.is_ready
                assert fleet.used_bytes <= 20 * MIB
            answering[spec.id] -= 1

    async with running(hands) as fleet:
        await asyncio.gather(*(ask(number) for number in range(60)))
    assert set(answering.values()) == {0}


async def test_an_adapter_that_the_worker_was_not_given_has_it_loaded_anew(hands: PretendedHands) -> None:
    """Even of a pinned model: who is being answered is, who asks waits, and the next worker has it."""
    other = Adapter(id="tone", sha256="e" * 64, path=Path("/nowhere"), size_bytes=1)
    toned = replace(hands.specs["a"], adapter=other)
    async with running(hands) as fleet:
        await settled(fleet, "a")
        assert not await fleet.has_room(toned, beside=hands.specs["a"])
        async with contextlib.AsyncExitStack() as answering:
            await answering.enter_async_context(fleet.lease(hands.specs["a"], seconds=5))
            asked = asyncio.create_task(held(fleet, toned))
            await asyncio.sleep(0.02)
            assert fleet.engines["a"].is_ready
            assert not fleet.is_open("a")
        assert await asked == "a"
        assert fleet.engines["a"].spec.adapter == other
        async with fleet.lease(toned, seconds=5):
            assert await fleet.has_room(toned, beside=None)
    assert [each for each in hands.said() if each[0] != "failed"][1:3] == [
        ("unloaded", "a", "activation"),
        ("loaded", "a", "activation"),
    ]


async def test_room_beside_the_model_that_answers_now(hands: PretendedHands) -> None:
    """What else is there may go; what is pinned, and the one beside, may not."""
    async with running(hands) as fleet:
        await settled(fleet, "a")
        assert await fleet.has_room(hands.specs["b"], beside=hands.specs["a"])
        async with fleet.lease(hands.specs["b"], seconds=5):
            assert await fleet.has_room(hands.specs["c"], beside=hands.specs["a"])
            assert not await fleet.has_room(hands.specs["c"], beside=hands.specs["b"])
