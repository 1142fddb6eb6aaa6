"""Which kernel and how many threads fit a machine, from what each candidate took. Pure: no library,
no clock.

A machine is rarely quiet while it is measured, and a choice is kept for years. So:
1. All candidates do the same pieces of work in turns. A figure counts only beside those of its own
   round: what slows the machine for seconds slows all of them. Of the rounds the middle ratio counts.
2. Kernels are compared by the processor time that they need: waiting for a neighbour is in none of it.
3. Threads are compared by the clock, and only by pieces that hardly waited for a neighbour. More of
   them must gain clearly. Where no piece was left alone the choice is what loses least at worst, by
   measurement on two cores: for many sequences all cores (quiet: half the time; beside somebody who
   wants a core: a third more), for a single one half of them (quiet: a tenth more; beside somebody:
   a fifth of the time).
4. Both kernels are used, each for what it is good at, where flash attention wins clearly without
   sharing, and does not in a room that shares. Plain attention alone must win clearly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from math import prod
from statistics import median
from typing import NamedTuple

from appliance.engine.messages import Tuning

MIN_GAIN_MANY = 1.08  # of more threads for many sequences
# For a single one: a small model gains a tenth by all cores, a large one nearly double. Between the two a
# disturbed figure decides nothing.
MIN_GAIN_ALONE = 1.4
MIN_GAIN_PLAIN = 1.02  # of plain attention in a room that shares its prompt
# With both kernels each request has the better one, and what is measured here is less than a real room
# gains (here 1.04, there 1.1): plain attention must only not be clearly the slower one.
MIN_GAIN_BOTH = 0.98
MIN_GAIN_FLASH = 1.05  # of flash attention for those who share nothing
MAX_WAITED = 0.1  # of a piece's time, that its threads waited for somebody else's
_HOPELESS = 1.3  # times what the best of the same kernel takes, in every round so far
_FIRST_ROUNDS = 2  # that all candidates take part in


class Piece(StrEnum):
    """The pieces of work."""

    READ = "read"  # a part of a long prompt, with nobody else there
    ALONE = "alone"  # one answer
    ROOM = "room"  # answers on one shared prompt, and questions that arrive
    STRANGERS = "strangers"  # answers that share nothing, and a long prompt that arrives


class Candidate(NamedTuple):
    """An attention kernel, and a number of threads."""

    flash_attn: bool
    threads: int


class Took(NamedTuple):
    """Seconds of one piece."""

    seconds: float  # by the clock
    cpu: float  # of the processor, of one thread; by the clock where something else computes
    waited: float  # that threads of ours were ready to run, and did not


Round = Mapping[tuple[Piece, Candidate], Took]
_CROWDED = (Piece.READ, Piece.ROOM, Piece.STRANGERS)


def still_in(rounds: Sequence[Round], piece: Piece, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Who takes part in the next round: all but those that were far behind in every one so far.

    Those with the fewest threads stay: by them the kernels are compared.
    """
    candidates = list(candidates)
    fewest = min(each.threads for each in candidates)
    return [
        each
        for each in candidates
        if len(rounds) < _FIRST_ROUNDS
        or each.threads == fewest
        or not all(_is_hopeless(one, piece, each) for one in rounds)
    ]


def is_decided(rounds: Sequence[Round], candidates: Iterable[Candidate]) -> bool:
    """Whether every candidate was left alone in two rounds, or more of them would not help it."""
    return all(
        len(_quiet(rounds, piece, each)) >= _FIRST_ROUNDS or each not in still_in(rounds, piece, candidates)
        for piece in Piece
        for each in candidates
    )


def choose(rounds: Sequence[Round], n_threads: int = 0, n_threads_batch: int = 0) -> Tuning:
    """The tuning. Threads other than 0 are given by the operator."""
    counts = sorted({candidate.threads for _, candidate in rounds[0]})
    flash_gain = _gain(rounds, counts[0], (Piece.READ, Piece.ALONE, Piece.STRANGERS))
    flash_pays = flash_gain > MIN_GAIN_FLASH
    min_gain = MIN_GAIN_BOTH if flash_pays else MIN_GAIN_PLAIN
    plain_pays = _gain(rounds, counts[0], (Piece.ROOM,)) < 1 / min_gain
    return Tuning(
        flash_attn=not plain_pays,
        n_threads=n_threads or _for_one(rounds, counts, flash_attn=flash_pays or not plain_pays),
        n_threads_batch=n_threads_batch or _for_many(rounds, counts, flash_attn=not plain_pays),
        apart=plain_pays and flash_pays,
    )


def _gain(rounds: Sequence[Round], threads: int, pieces: Sequence[Piece]) -> float:
    """What plain attention needs of a processor, divided by what flash attention needs."""
    plain, flash = Candidate(flash_attn=False, threads=threads), Candidate(flash_attn=True, threads=threads)
    gains = [median(each[piece, plain].cpu / each[piece, flash].cpu for each in rounds) for piece in pieces]
    return prod(gains) ** (1 / len(gains))


def _for_many(rounds: Sequence[Round], counts: list[int], *, flash_attn: bool) -> int:
    return _threads(rounds, counts, flash_attn, _CROWDED, MIN_GAIN_MANY) or counts[-1]


def _for_one(rounds: Sequence[Round], counts: list[int], *, flash_attn: bool) -> int:
    half = next(count for count in counts if 2 * count >= counts[-1])
    return _threads(rounds, counts, flash_attn, (Piece.ALONE,), MIN_GAIN_ALONE) or half


def _threads(
    rounds: Sequence[Round],
    counts: list[int],
    flash_attn: bool,  # noqa: FBT001
    pieces: Sequence[Piece],
    min_gain: float,
) -> int:
    """The fewest that no larger number beats clearly; 0 where neighbours leave it open."""
    best = counts[0]
    for count in counts[1:]:
        fewer, more = Candidate(flash_attn, best), Candidate(flash_attn, count)
        gains = [_quiet_gain(rounds, piece, fewer, more) for piece in pieces]
        if 0 in gains:
            return 0
        if prod(gains) ** (1 / len(gains)) > min_gain:
            best = count
    return best


def _quiet_gain(rounds: Sequence[Round], piece: Piece, fewer: Candidate, more: Candidate) -> float:
    """By the middle of what each took when it was left alone; 0 where one of them never was."""
    one, other = _quiet(rounds, piece, fewer), _quiet(rounds, piece, more)
    return median(one) / median(other) if one and other else 0


def _quiet(rounds: Sequence[Round], piece: Piece, candidate: Candidate) -> list[float]:
    """Its times by the clock in the rounds that left it alone, in units of the work of that round."""
    fewest = Candidate(candidate.flash_attn, min(each.threads for _, each in rounds[0]))
    return [
        each[piece, candidate].seconds / each[piece, fewest].cpu
        for each in rounds
        if (piece, candidate) in each and _was_left_alone(each[piece, candidate])
    ]


def _was_left_alone(took: Took) -> bool:
    return took.waited <= MAX_WAITED * took.seconds


def _is_hopeless(one: Round, piece: Piece, candidate: Candidate) -> bool:
    """Far behind; one that a neighbour held up may still show its best."""
    mine = one.get((piece, candidate))
    if mine is None:
        return True
    rivals = [
        took.seconds
        for (work, each), took in one.items()
        if work is piece and each.flash_attn is candidate.flash_attn
    ]
    return mine.seconds > _HOPELESS * min(rivals) and _was_left_alone(mine)
