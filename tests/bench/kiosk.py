"""A kiosk room: one long system prompt, short questions, 8 or 16 at once; after the start, and warm."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from tests.bench import clients, rooms, tuning
from tests.bench.figures import Row, Run
from tests.bench.peers import (
    Server,
    has_llama_cpp_server,
    has_llama_server,
    llama_cpp_server,
    llama_server,
    ours,
)

ANSWER_TOKENS = 48
FIRST = 32
WARM = 48
# By clients: the rooms, and what we must reach of llama-server's requests/s, first and warm.
TARGETS = {8: ((1, 2), 4.0, 1.2), 16: ((3,), 3.0, 1.2)}
SERIAL_FIRST, SERIAL_WARM = 8, 8  # a server that answers one after the other needs no long queue


@dataclass(frozen=True)
class _Figures:
    first: float
    warm: float


def run(run: Run) -> list[Row]:
    """Requests per second, all rooms of one number of clients together."""
    rows: list[Row] = []
    for num_clients, (seeds, first, warm) in TARGETS.items():
        mine = _measure(run, ours, num_clients, seeds)
        label = f"kiosk room, {num_clients} clients"
        if has_llama_server():
            best = tuning.best(run, num_clients)
            peer = _measure(run, partial(llama_server, choice=best), num_clients, seeds)
            rows += [
                Row(f"{label}, first {FIRST}", "requests/s", mine.first, "llama-server", peer.first, first),
                Row(f"{label}, warm", "requests/s", mine.warm, "llama-server", peer.warm, warm),
            ]
        else:
            rows += [
                Row(f"{label}, first {FIRST}", "requests/s", mine.first),
                Row(f"{label}, warm", "requests/s", mine.warm),
            ]
        if has_llama_cpp_server() and num_clients == min(TARGETS):
            serial = _measure(run, llama_cpp_server, num_clients, seeds[:1], SERIAL_FIRST, SERIAL_WARM)
            rows += [
                Row(f"{label}, first {FIRST}", "requests/s", mine.first, "llama_cpp.server", serial.first),
                Row(f"{label}, warm", "requests/s", mine.warm, "llama_cpp.server", serial.warm),
            ]
    return rows


def _measure(
    run: Run,
    start: Callable[[Path], AbstractContextManager[Server]],
    num_clients: int,
    seeds: tuple[int, ...],
    num_first: int = FIRST,
    num_warm: int = WARM,
) -> _Figures:
    """A fresh server for each room."""
    first_seconds = warm_seconds = 0.0
    for seed in seeds:
        room = rooms.room(seed)
        asked = [
            [room.messages(n) for n in range(num_first)],
            [room.messages(1000 + n) for n in range(num_warm)],
        ]
        with start(run.folder()) as server:
            first, warm = (
                clients.crowd(server, questions, clients=num_clients, max_tokens=ANSWER_TOKENS)
                for questions in asked
            )
        first_seconds += first.seconds
        warm_seconds += warm.seconds
        prompt = fmean(each.prompt_tokens for each in warm.answers)
        answer = fmean(each.tokens for each in warm.answers)
        run.say(
            f"{server.name}, {num_clients} clients, room {seed}: first {first.rate:.2f}, "
            f"warm {warm.rate:.2f} requests/s ({prompt:.0f} prompt and {answer:.0f} answer tokens each)"
        )
    return _Figures(len(seeds) * num_first / first_seconds, len(seeds) * num_warm / warm_seconds)
