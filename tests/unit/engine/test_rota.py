"""Whose adapter computes: turns that are worth a change, nobody forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.worker.rota import MAX_TURN_US, TURNS_WORTH, Rota


def turns(rota: Rota, at_work: list[str], *, step_us: int, steps: int) -> list[str]:
    """Under which adapter each of so many equal steps was computed."""
    found = []
    for _ in range(steps):
        found.append(rota.choose(at_work))
        rota.ran(step_us)
    return found


def test_one_alone_never_changes() -> None:
    """While nobody else has work there is no turn to end."""
    assert turns(Rota(5_000), ["one"], step_us=1_000_000, steps=5) == ["one"] * 5


def test_a_turn_is_worth_its_change() -> None:
    """Sixteen steps are worth four changes of four steps each: then comes the other."""
    order = turns(Rota(8_000), ["one", "two"], step_us=2_000, steps=64)

    assert order == [*["one"] * 16, *["two"] * 16] * 2
    assert TURNS_WORTH * 8_000 == 16 * 2_000


def test_turns_end_for_readers() -> None:
    """However dear a change is, nobody waits longer than one bound for the other's turn."""
    order = turns(Rota(10_000_000), ["one", "two"], step_us=50_000, steps=20)

    assert order == [*["one"] * 5, *["two"] * 5] * 2
    assert MAX_TURN_US == 250_000


def test_who_can_not_compute_waits_for_the_others() -> None:
    """A turn with nothing to compute is over at once."""
    rota = Rota(1_000_000)
    assert rota.choose(["one", "two"]) == "one"
    rota.could_not()
    assert rota.choose(["one", "two"]) == "two"


@given(st.lists(st.sets(st.sampled_from("abcde"), min_size=1), min_size=1, max_size=60))
def test_nobody_waits_longer_than_for_everybody_else_once(history: list[set[str]]) -> None:
    """Who has work all the time computes again after at most one turn of each of the others."""
    rota = Rota(0)
    waited: dict[str, int] = {}
    for at_work in history:
        chosen = rota.choose(sorted(at_work))
        rota.ran(1)
        assert chosen in at_work
        waited = {each: waited.get(each, 0) + 1 for each in at_work if each != chosen}
        assert max(waited.values(), default=0) <= 5
