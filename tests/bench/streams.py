"""Decode rate: the bare library at its best setting, and the same stories through the whole worker."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import ourselves, rooms
from tests.bench.bare import Done, Job, Setting
from tests.bench.figures import Row, Run
from tests.bench.peers import CELLS, CORES, PeerFailed

# By streams: what we must reach of the library's rate, and the tokens of each answer.
TARGETS = {1: (0.95, 160), 8: (0.9, 128), 16: (0.9, 96), 32: (0.9, 64)}
TRIAL_STEPS = 24
FINALISTS = 2
REPEATS = 2  # the better one counts, on both sides: noise only ever slows down
_BARE_SECONDS = 600
_READING_TOKENS = 96  # of an answer, that may be written before the last prompt is read


def run(run: Run) -> list[Row]:
    """Tokens per second, from the moment when everybody has begun to the first end."""
    rows = []
    for streams, (target, tokens) in TARGETS.items():
        conversations = [rooms.story(100 * streams + n) for n in range(streams)]
        finalists = _trials(run, conversations)
        ceiling = whole = 0.0
        for _ in range(REPEATS):
            mine = asyncio.run(_whole(conversations, tokens))
            run.say(
                f"through the worker, {streams} streams: {mine.rate:.1f} tokens/s "
                f"({mine.before} tokens each before, {mine.steps} counted)"
            )
            whole = max(whole, mine.rate)
            # The library over the same positions: answers of another length have other costs.
            jobs = [Job(each, conversations, mine.steps, CELLS, skip=mine.before) for each in finalists]
            for setting, done in zip(finalists, bare(jobs), strict=True):
                rate = streams * mine.steps / done.seconds
                run.say(f"bare loop, {streams} streams, {setting}: {rate:.1f} tokens/s")
                if rate > ceiling:
                    ceiling, best = rate, setting
        run.note(f"the library's best setting for {streams} streams: {best}")
        label = f"decoding, {streams} stream{'s' if streams > 1 else ''}"
        rows.append(Row(label, "tokens/s", whole, "bare library", ceiling, target))
    return rows


@dataclass(frozen=True)
class _Written:
    """What was counted: the rate, and which part of the answers it is."""

    rate: float
    before: int  # tokens of each answer, in the mean, before the clock started
    steps: int


def bare(jobs: Sequence[Job], *, package: Path | None = None) -> list[Done]:
    """Jobs of the bare loop, in one process of their own; with the llama_cpp in the folder `package`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bare"],
        env={**os.environ, "PYTHONPATH": str(package)} if package is not None else None,
        input=json.dumps([dataclasses.asdict(each) for each in jobs]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_BARE_SECONDS,
    )
    return [Done(**json.loads(each)) for each in done.stdout.splitlines()]


def settings() -> list[Setting]:
    """The grid: pool, attention, threads from one to all cores in powers of two."""
    threads = sorted({CORES, *(1 << n for n in range(CORES.bit_length()) if 1 << n < CORES)})
    return [Setting(*each) for each in itertools.product((True, False), (True, False), threads)]


def _trials(run: Run, conversations: list[rooms.Messages]) -> list[Setting]:
    grid = settings()
    trials = bare([Job(each, conversations, TRIAL_STEPS, CELLS) for each in grid])
    order = sorted(zip(trials, grid, strict=True), key=lambda pair: pair[0].seconds)
    run.say(f"bare loop, {len(conversations)} streams: tried {len(grid)} settings")
    return [setting for _, setting in order[:FINALISTS]]


async def _whole(conversations: list[rooms.Messages], tokens: int) -> _Written:
    """Through supervisor and worker, without guesses, while all of them write."""
    needed = {"n_seq_max": len(conversations)} if len(conversations) > 16 else {}
    async with ourselves.engine(speculation=False, **needed) as engine:
        # Their prompts are read one after the other while the first ones write already.
        long = tokens + _READING_TOKENS
        heard = await asyncio.gather(
            *(ourselves.hear(engine, each, max_tokens=long) for each in conversations)
        )
    begin = max(each.ticks[0][0] for each in heard)
    end = min(each.ticks[-1][0] for each in heard)
    if end <= begin:
        raise PeerFailed("not all streams wrote at one time")
    streams = len(conversations)
    before = sum(count for each in heard for at, count in each.ticks if at <= begin)
    counted = sum(count for each in heard for at, count in each.ticks if begin < at <= end)
    return _Written(counted / (end - begin), before // streams, max(1, counted // streams))
