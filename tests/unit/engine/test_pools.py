"""Two pools under one core: each request in one of them, nothing left behind in either."""

from __future__ import annotations

import pytest

from appliance.engine.messages import Failed, Finished, Started, Stats
from tests.engines import LOAD, Bench, cached_tokens
from tests.fakes.fake_backend import FakeBackend

SYSTEM = "You answer for a town hall. " * 5  # well above what decides
LETTER = "a long letter that nobody else writes, about rivers and bridges and one old ferry"


class Pools(Bench):
    """A core with a pool apart, and what each of the two computed."""

    def __init__(self, *, n_cells_apart: int = LOAD.n_ctx) -> None:
        self.other = FakeBackend(LOAD, n_cells=n_cells_apart)
        super().__init__(apart=self.other)

    @property
    def computed(self) -> tuple[int, int]:
        return self.backend.num_computed, self.other.num_computed

    def assert_clean(self) -> None:
        super().assert_clean()
        assert all(seq_id >= LOAD.n_seq_max for seq_id in self.other.cells)
        assert self.other.num_cells <= self.cached
        assert self.other.num_samplers == 0


def test_a_room_shares_and_a_letter_is_apart() -> None:
    """A long system message goes to the shared pool, a message of its own to the one apart."""
    bench = Pools()
    bench.ask("letter", LETTER)
    bench.run()
    assert bench.computed[0] == 0 < bench.computed[1]

    apart = bench.computed[1]
    bench.ask("room", "echo: hello", system=SYSTEM)
    bench.run()

    assert bench.computed[0] > 0
    assert bench.computed[1] == apart
    assert bench.text("room") == "hello"
    bench.assert_clean()


def test_what_comes_again_goes_where_it_was_computed() -> None:
    """A conversation that began apart goes on there, on top of its own cells."""
    bench = Pools()
    for number in range(2):
        bench.ask(str(number), f"{LETTER} echo: {number}")
        bench.run()

    assert cached_tokens(bench, "1") >= len(LETTER)
    assert bench.computed[0] == 0
    bench.assert_clean()


@pytest.mark.parametrize(("system", "text"), [(SYSTEM, "echo: x"), ("", LETTER)])
def test_tenants_share_nothing_in_either_pool(system: str, text: str) -> None:
    """Another key's prefix saves a request nothing, and does not draw it anywhere."""
    bench = Pools()
    for tenant in ("one", "two"):
        bench.ask(tenant, text, system=system, tenant=tenant)
        bench.run()

    assert min(bench.computed) == 0 < max(bench.computed)
    assert cached_tokens(bench, "two") == 0
    bench.assert_clean()


def test_what_could_outgrow_the_pool_apart_is_shared() -> None:
    """A request without a limit may take all that the model takes: only the shared pool holds that."""
    bench = Pools(n_cells_apart=LOAD.n_ctx // 2)
    bench.ask("unbounded", "echo: x")
    bench.run()
    assert bench.computed[1] == 0 < bench.computed[0]

    bench.ask("bounded", "echo: y", max_tokens=8)
    bench.run()
    assert bench.computed[1] > 0
    bench.assert_clean()


def test_both_write_in_turn() -> None:
    """Neither pool waits until the other has nothing to do, and pictures show both."""
    bench = Pools()
    bench.ask("room", "say 40 tokens", system=SYSTEM)
    bench.ask("letter", "say 40 tokens")
    for _ in range(12):
        bench.core.step()
    assert bench.text("room")
    assert bench.text("letter")
    picture = bench.core._stats()
    bench.run()

    assert all(each.running == 2 for each in picture if isinstance(each, Stats))
    assert [type(end) for name in ("room", "letter") for end in bench.ends(name)] == [Finished] * 2
    bench.assert_clean()


def test_one_who_leaves_leaves_either_pool() -> None:
    """An abort finds its request wherever it is."""
    bench = Pools()
    bench.ask("room", "say 40 tokens", system=SYSTEM)
    bench.ask("letter", "say 40 tokens")
    for _ in range(4):
        bench.core.step()
    for name in ("room", "letter"):
        bench.core.abort(name)

    assert not bench.core.has_work
    assert all(end.reason == "aborted" for n in ("room", "letter") for end in bench.ends(n))  # type: ignore[union-attr]
    bench.assert_clean()


def test_both_queues_together_are_bounded() -> None:
    """Who waits in one pool counts in the other."""
    bench = Pools()
    for number in range(10):
        bench.ask(f"room {number}", "echo: x", system=f"{number} {SYSTEM}")
        bench.ask(f"letter {number}", f"echo: {number}")
    refused = [each for each in bench.said if isinstance(each, Failed)]
    started = [each for each in bench.said if isinstance(each, Started)]
    bench.run()

    assert len(started) == LOAD.max_waiting
    assert {each.code for each in refused} == {"overloaded"}
    assert len(started) + len(refused) == 20
    bench.assert_clean()
