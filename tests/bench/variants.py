"""The portable build beside one that was compiled for this processor alone: the same jobs in turns.

Each is the bare library loop in a process of its own, so that nothing but the library differs. Short rounds
in turns, and the quickest of each kind: the same instructions on the same numbers take the same time, and
whatever else a machine does makes them longer. One thread for everything, for the same reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import llama as build  # set-up's; `peers` has put it onto the path

from tests.bench import rooms
from tests.bench.bare import Done, Job, Setting
from tests.bench.figures import Row, Run
from tests.bench.peers import CELLS, PeerFailed
from tests.bench.streams import bare

ROUNDS = 12
STEPS, STEPS_TOGETHER = 48, 24
STREAMS = 8
SETTING = Setting(unified=False, flash=False, threads=1)
AT_LEAST = 0.97


def run(run: Run) -> list[Row]:
    """Tokens per second of three pieces of work, and whether the words are the same."""
    native = _unpacked(run)
    one, many = ([rooms.story(2000 + n) for n in range(count)] for count in (1, STREAMS))
    jobs = [Job(SETTING, one, STEPS, CELLS), Job(SETTING, many, STEPS_TOGETHER, CELLS)]
    ours: list[list[Done]] = []
    theirs: list[list[Done]] = []
    for number in range(ROUNDS):
        turns = [(ours, None), (theirs, native)]
        for kept, package in turns if number % 2 == 0 else reversed(turns):
            kept.append(bare(jobs, package=package))
        run.say(f"round {number + 1} of {ROUNDS}")
    same = all(
        [each.tokens for each in mine] == [each.tokens for each in peers]
        for mine, peers in zip(ours, theirs, strict=True)
    )
    rows = [
        _row("one answer", _of(ours, 0), _of(theirs, 0), STEPS),
        _row(f"{STREAMS} answers", _of(ours, 1), _of(theirs, 1), STEPS_TOGETHER * STREAMS),
        _read(_of(ours, 1), _of(theirs, 1)),
        Row("greedy tokens as the native build's", "share", float(same), "native build", 1.0, 1.0),
    ]
    run.note(
        f"the quickest of {ROUNDS} rounds in turns, one thread; the portable build chose its variant itself"
    )
    return rows


def _of(rounds: list[list[Done]], job: int) -> list[Done]:
    return [each[job] for each in rounds]


def _row(label: str, ours: list[Done], theirs: list[Done], tokens: int) -> Row:
    mine, peer = (tokens / min(each.seconds for each in dones) for dones in (ours, theirs))
    return Row(f"{label}, written", "tokens/s", mine, "native build", peer, AT_LEAST)


def _read(ours: list[Done], theirs: list[Done]) -> Row:
    mine, peer = (
        max(each.num_read / each.read_seconds for each in dones if each.read_seconds)
        for dones in (ours, theirs)
    )
    return Row("prompts, read", "tokens/s", mine, "native build", peer, AT_LEAST)


def _unpacked(run: Run) -> Path:
    """The native build as a folder that Python finds its package in. PeerFailed where it is not built."""
    wheel = build.find_native()
    if wheel is None:
        raise PeerFailed("the native build is not there: make llama-native")
    folder = run.folder()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    done = subprocess.run(
        [sys.executable, "-c", "import llama_cpp; print(llama_cpp.__file__)"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    if not done.stdout.startswith(str(folder)):
        raise PeerFailed(f"Python takes llama_cpp from {done.stdout.strip()}")
    return folder
