"""Prefixes: computed once, shared with nobody else, declared, spilled and back."""

from __future__ import annotations

import pytest

from tests.engines import Bench, cached_tokens


def test_a_prefix_is_computed_once_for_one_tenant() -> None:
    """A second question on the same long beginning pays for its own end only, and says so."""
    bench = Bench()
    first = bench.ask("a", PREFIX + "echo: one")
    bench.run()
    computed = bench.backend.num_computed
    bench.ask("b", PREFIX + "echo: two")
    bench.run()

    assert (bench.text("a"), bench.text("b")) == ("one", "two")
    assert cached_tokens(bench, "a") == 0
    assert cached_tokens(bench, "b") >= len(PREFIX)
    assert bench.backend.num_computed - computed < first.num_prompt / 4
    bench.assert_clean()


def test_concurrent_first_requests_compute_their_prefix_once() -> None:
    """Those who come while it is being computed wait for it and then share it."""
    bench = Bench()
    for n in range(4):
        bench.ask(str(n), PREFIX + f"echo: number {n}")
    bench.run()

    assert [bench.text(str(n)) for n in range(4)] == [f"number {n}" for n in range(4)]
    assert bench.backend.num_computed < 2 * len(PREFIX)
    assert [cached_tokens(bench, str(n)) > 100 for n in range(4)] == [False, True, True, True]
    bench.assert_clean()


def test_running_sequences_can_be_forked() -> None:
    """A prefix is taken from an answer that is still being written, without disturbing it."""
    bench = Bench()
    bench.ask("long", PREFIX + "say 40 tokens")
    while not bench.text("long"):
        bench.core.step()
    bench.ask("late", PREFIX + "echo: late")
    bench.run()

    assert cached_tokens(bench, "late") >= len(PREFIX)
    assert bench.text("long") == " word" * 40
    assert bench.text("late") == "late"
    bench.assert_clean()


def test_tenants_share_nothing() -> None:
    """Another tenant's prefix is neither found nor waited for: time tells nothing about it."""
    bench = Bench()
    bench.ask("a", PREFIX + "echo: mine", tenant="a")
    bench.ask("b", PREFIX + "echo: theirs", tenant="b")
    bench.run()
    bench.ask("c", PREFIX + "echo: again", tenant="c")
    bench.run()

    assert [cached_tokens(bench, each) for each in "abc"] == [0, 0, 0]
    bench.assert_clean()


def test_cache_is_bounded_and_gives_way() -> None:
    """Many different prompts leave at most the bound; a full pool takes the cache's cells first."""
    bench = Bench(n_cells=1200, cached=300)
    for n in range(12):
        bench.ask(str(n), f"{n} " * 40 + f"echo: {n}")
        bench.run()
    assert 0 < bench.backend.num_cells <= 300
    bench.ask("huge", "x" * 1150 + " echo: fits", max_tokens=6)
    bench.run()

    assert bench.text("huge") == "fits"
    bench.assert_clean()


def test_without_a_cache_nothing_is_shared() -> None:
    """Models that can not share, and operators who do not want it, get the same answers."""
    bench = Bench(cached=0)
    for n in range(3):
        bench.ask(str(n), PREFIX + f"echo: {n}")
    bench.run()

    assert [bench.text(str(n)) for n in range(3)] == ["0", "1", "2"]
    assert [cached_tokens(bench, str(n)) for n in range(3)] == [0, 0, 0]
    assert bench.backend.cells == {}


PREFIX = "the office opens at nine and closes at five, except on Fridays; " * 3
RULES = "The rules of the house: " + "be kind. " * 10
STORY = "a long story. " * 12


def test_what_is_declared_serves_everybody_and_is_computed_once() -> None:
    """A declared system prompt is warm before the first question, for every tenant, and no token more."""
    bench = Bench(declared=(RULES,))
    warm = bench.backend.num_computed
    for tenant in ("one", "two"):
        bench.ask(tenant, "echo: hello there", tenant=tenant, system=RULES)
        bench.run()

    assert cached_tokens(bench, "one") == cached_tokens(bench, "two") == warm > len(RULES)
    assert [bench.text("one"), bench.text("two")] == ["hello there"] * 2
    bench.assert_clean()


def test_a_part_of_what_is_declared_is_not_shared() -> None:
    """A prompt that only begins like a declared one shares nothing with strangers."""
    bench = Bench(declared=(RULES,))
    bench.ask("one", "hello", tenant="one", system=RULES[:60])
    bench.run()

    assert cached_tokens(bench, "one") == 0


def test_declared_prefixes_are_the_last_to_go() -> None:
    """Leaves of callers give way before what the operator declared."""
    bench = Bench(declared=(RULES,), cached=200)
    for number in range(6):
        bench.ask(f"filler {number}", f"echo: {number}" + "x" * 100, tenant=f"filler {number}")
        bench.run()
    bench.ask("late", "hello", tenant="late", system=RULES)
    bench.run()

    assert cached_tokens(bench, "late") > len(RULES)


def told_and_spilled() -> Bench:
    """A bench whose first conversation has left the cells for the host's memory."""
    bench = Bench(cached=500, spilled=4000)
    bench.ask("first", f"echo: {STORY}")
    bench.run()
    for number in range(4):
        bench.ask(f"other {number}", f"echo: {number}" + "y" * 200, tenant="other")
        bench.run()
    assert bench.core._shared._scheduler.num_cells_spilled > len(STORY)
    return bench


def test_spilled_prefixes_come_back() -> None:
    """A conversation that had to leave the cells goes on from the host's memory, not from its start."""
    bench = told_and_spilled()
    bench.ask("again", f"echo: {STORY}and then?")
    bench.run()

    assert bench.backend.num_restored > len(STORY)
    assert cached_tokens(bench, "again") >= len(STORY)
    assert bench.text("again") == f"{STORY}and then?"
    bench.assert_clean()


def test_failed_restores_cost_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library has no room for what was spilled, the prompt is computed again."""
    bench = told_and_spilled()
    monkeypatch.setattr(bench.backend, "restore", lambda *_args: False)
    bench.ask("again", f"echo: {STORY}and then?")
    bench.run()

    assert cached_tokens(bench, "again") == 0
    assert bench.text("again") == f"{STORY}and then?"
    bench.assert_clean()
