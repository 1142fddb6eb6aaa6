"""Adapters over the fake backend, which refuses to go on with cells of another one."""

from __future__ import annotations

import pytest

from appliance.engine.messages import Rejected, Setup
from tests.engines import LOAD, Bench, cached_tokens
from tests.fakes.fake_backend import FakeBackend

SETUP = Setup(n_ctx=4096, n_batch=32, n_threads=1, flash_attn=False)
SYSTEM = "Answer as a clerk would, and tell everybody when the office is open. " * 2
BOTH = ("formal", "plain")


def test_each_question_is_answered_under_its_own() -> None:
    """With two adapters and none, all at once, everybody gets the answer of what was asked for."""
    bench = Bench(adapters=BOTH)
    for number, adapter in enumerate(["", *BOTH, "", *BOTH]):
        bench.ask(f"{adapter} {number}", "which adapter", adapter=adapter)
    bench.run()

    for number, adapter in enumerate(["", *BOTH, "", *BOTH]):
        assert bench.text(f"{adapter} {number}") == (adapter or "none")
    bench.assert_clean()


def test_both_pools_take_turns_of_their_own() -> None:
    """Who is computed apart has an adapter there, whatever lies over the shared pool."""
    bench = Bench(adapters=BOTH, apart=FakeBackend(LOAD, n_cells=1024))
    bench.backend.apart.model = bench.backend.model  # type: ignore[union-attr]
    for adapter in BOTH:
        bench.ask(f"shared {adapter}", "which adapter", adapter=adapter, system=SYSTEM, max_tokens=20)
        bench.ask(f"apart {adapter}", "which adapter", adapter=adapter, max_tokens=20)
    bench.run()

    for adapter in BOTH:
        assert bench.text(f"shared {adapter}") == bench.text(f"apart {adapter}") == adapter


@pytest.mark.parametrize("spilled", [0, 4096])
def test_prefixes_are_not_shared_across_adapters(spilled: int) -> None:
    """The same words of the same tenant are read anew under another adapter, and found under their own."""
    bench = Bench(adapters=BOTH, cached=512, spilled=spilled)
    for number, adapter in enumerate(["", "formal", "", "formal", "plain"]):
        bench.ask(str(number), "which adapter", system=SYSTEM, adapter=adapter)
        bench.run()
    found = [cached_tokens(bench, str(number)) for number in range(5)]

    assert found[0] == found[1] == found[4] == 0
    assert min(found[2], found[3]) > len(SYSTEM)
    bench.assert_clean()


def test_a_declared_prefix_serves_everybody_under_one_adapter() -> None:
    """What the operator declared is computed without one: under an adapter the first who asks computes it."""
    bench = Bench(adapters=BOTH, declared=(SYSTEM,))
    for number, (tenant, adapter) in enumerate([("a", ""), ("a", "plain"), ("b", "plain"), ("b", "formal")]):
        bench.ask(str(number), f"which adapter, asks {tenant}", system=SYSTEM, tenant=tenant, adapter=adapter)
        bench.run()
    found = [cached_tokens(bench, str(number)) for number in range(4)]

    assert found[1] == found[3] == 0
    assert found[0] == found[2] > len(SYSTEM)


def test_streams_of_all_adapters_grow_together() -> None:
    """Nobody waits for the end of somebody else's answer."""
    bench = Bench(adapters=BOTH)
    for adapter in ("", *BOTH):
        bench.ask(f"to {adapter}", "say 60 tokens", adapter=adapter)
    for _ in range(60):
        bench.core.step()
    words = [bench.text(f"to {adapter}").count("word") for adapter in ("", *BOTH)]

    assert min(words) > 10
    assert not any(bench.ends(f"to {adapter}") for adapter in ("", *BOTH))
    bench.run()
    bench.assert_clean()


def test_one_adapter_alone_is_laid_once() -> None:
    """Nothing is changed while there is nobody to change for."""
    bench = Bench(adapters=BOTH)
    for number in range(4):
        bench.ask(str(number), "say 20 tokens", adapter="plain")
        bench.run()

    assert bench.backend.num_changes == 1


def test_a_tight_pool_starves_nobody() -> None:
    """Where cells are short those under other adapters give way, and everybody is answered in the end."""
    bench = Bench(n_cells=150, adapters=BOTH, cached=0)
    for number in range(8):
        bench.ask(str(number), "say 40 tokens", adapter=("", *BOTH)[number % 3])
    bench.run()

    assert [bench.text(str(number)).count("word") for number in range(8)] == [40] * 8
    bench.assert_clean()


def test_reproducible_answers_have_theirs() -> None:
    """The lane of each is opened under its adapter, and again under another one's."""
    bench = Bench(adapters=BOTH)
    for number, adapter in enumerate(["formal", "", "plain", "formal"]):
        bench.ask(str(number), "which adapter", setup=SETUP, adapter=adapter)
    bench.run()

    assert [bench.text(str(number)) for number in range(4)] == ["formal", "none", "plain", "formal"]


def test_an_unknown_adapter_is_refused() -> None:
    """A name that was not loaded is refused before anything is computed."""
    refused = Bench(adapters=BOTH).ask("one", "which adapter", adapter="other")

    assert isinstance(refused, Rejected)
    assert (refused.code, refused.param) == ("adapter_not_loaded", "model")
