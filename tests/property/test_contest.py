"""Machines that are never quiet: what is chosen for one stays the same, or hardly matters."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.messages import Tuning
from appliance.engine.worker.contest import Candidate, Piece, Took, choose, is_decided, still_in

ROUNDS = 3


@dataclass(frozen=True)
class Machine:
    """What each piece costs a kernel in processor seconds, and what more threads make of it."""

    cores: int
    plain: dict[Piece, float]
    flash: dict[Piece, float]
    scaling: dict[Piece, float]  # of each thread more: 1 doubles the speed of the first

    @property
    def counts(self) -> list[int]:
        return sorted({max(1, self.cores // 2), self.cores})

    @property
    def candidates(self) -> list[Candidate]:
        return [Candidate(flash, count) for count in self.counts for flash in (False, True)]

    def cpu(self, piece: Piece, candidate: Candidate) -> float:
        return (self.flash if candidate.flash_attn else self.plain)[piece]

    def seconds(self, piece: Piece, candidate: Candidate) -> float:
        return self.cpu(piece, candidate) / (1 + self.scaling[piece] * (candidate.threads - 1))

    def room_rate(self, tuning: Tuning) -> float:
        """What a room that shares its prompt gets from it."""
        return 1 / self.seconds(Piece.ROOM, Candidate(tuning.flash_attn, tuning.n_threads_batch))


def tuned(machine: Machine, chance: random.Random, *, neighbours: float) -> Tuning:
    """Beside somebody who wants the cores for a share of the pieces, on a clock that drifts."""
    rounds: list[dict[tuple[Piece, Candidate], Took]] = []
    while len(rounds) < ROUNDS or not (is_decided(rounds, machine.candidates) or len(rounds) > 2 * ROUNDS):
        slow = chance.uniform(1, 1.5)  # a busy cache, a processor that is hot: for a whole round
        done = {}
        for piece in Piece:
            for each in still_in(rounds, piece, machine.candidates):
                cpu = slow * chance.gauss(1, 0.01)
                held_up = chance.uniform(1.2, 8) if chance.random() < neighbours else chance.uniform(1, 1.02)
                seconds = cpu * held_up * machine.seconds(piece, each)
                done[piece, each] = Took(seconds, cpu * machine.cpu(piece, each), seconds * (1 - 1 / held_up))
        rounds.append(done)
    return choose(rounds)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    plain = {piece: draw(st.floats(0.01, 10)) for piece in Piece}
    flash = {piece: plain[piece] * draw(st.floats(0.4, 1.8)) for piece in Piece}
    return Machine(
        cores=draw(st.sampled_from((1, 2, 4, 16))),
        plain=plain,
        flash=flash,
        scaling={piece: draw(st.floats(0.5, 1)) for piece in Piece},
    )


@given(machines(), st.integers(0, 2**32), st.sampled_from((0.0, 0.3, 1.0)))
@settings(max_examples=60, deadline=None)
def test_ten_times_the_same_room(machine: Machine, seed: int, neighbours: float) -> None:
    """However busy the machine is, ten tunings give a room the same rate but for a few per cent."""
    chance = random.Random(seed)
    rates = [machine.room_rate(tuned(machine, chance, neighbours=neighbours)) for _ in range(10)]

    # Two per cent by which two pools are preferred, and four times the deviation of the middle of three.
    assert max(rates) <= 1.06 * min(rates)


def two_cores(**flash: float) -> Machine:
    """Plain attention takes a second for everything."""
    return Machine(
        cores=2,
        plain=dict.fromkeys(Piece, 1.0),
        flash={piece: flash.get(piece.value, 1.0) for piece in Piece},
        scaling={**dict.fromkeys(Piece, 0.9), Piece.ALONE: 0.1},
    )


@pytest.mark.parametrize("neighbours", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("flash", "chosen"),
    [
        (
            {"room": 1.04, "strangers": 0.6},
            Tuning(flash_attn=False, n_threads=1, n_threads_batch=2, apart=True),
        ),
        ({"room": 0.9, "strangers": 0.6}, Tuning(flash_attn=True, n_threads=1, n_threads_batch=2)),
        ({"room": 1.3, "strangers": 1.1}, Tuning(flash_attn=False, n_threads=1, n_threads_batch=2)),
        ({}, Tuning(flash_attn=True, n_threads=1, n_threads_batch=2)),
    ],
)
def test_what_is_chosen(flash: dict[str, float], chosen: Tuning, neighbours: float) -> None:
    """Each kernel where it wins, both where both do, and never one thread too many for one answer."""
    machine = two_cores(**flash)
    for seed in range(10):
        assert tuned(machine, random.Random(seed), neighbours=neighbours) == chosen


def test_a_long_answer_alone_takes_all_cores_where_they_pay() -> None:
    """A large model gains nearly all of the second core, with one sequence, too."""
    machine = Machine(2, dict.fromkeys(Piece, 1.0), dict.fromkeys(Piece, 1.0), dict.fromkeys(Piece, 0.8))

    assert tuned(machine, random.Random(1), neighbours=0.0).n_threads == 2


def test_given_threads_are_kept() -> None:
    """What the operator wrote down is not measured."""
    machine = two_cores()
    rounds = [
        {
            (piece, each): Took(machine.seconds(piece, each), machine.cpu(piece, each), 0.0)
            for piece, each in itertools.product(Piece, machine.candidates)
        }
    ] * ROUNDS

    assert choose(rounds, 3, 5) == Tuning(flash_attn=True, n_threads=3, n_threads_batch=5)


def test_who_is_far_behind_is_not_waited_for() -> None:
    """Two rounds tell it, unless a neighbour was in the way; those who compare the kernels stay."""
    slow, held_up = Took(3.0, 1.0, 0.0), Took(3.0, 1.0, 2.0)
    first, second = Candidate(flash_attn=False, threads=1), Candidate(flash_attn=False, threads=2)
    alone = (Piece.ALONE, first), (Piece.ALONE, second)

    def left(of_first: Took, of_second: Took) -> list[Candidate]:
        rounds = [dict(zip(alone, (of_first, of_second), strict=True))] * 2
        return still_in(rounds, Piece.ALONE, [first, second])

    fast = Took(1.0, 1.0, 0.0)
    assert left(fast, slow) == [first]
    assert left(fast, held_up) == [first, second]
    assert left(slow, fast) == [first, second]
