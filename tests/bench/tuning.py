"""llama-server at its best: a small grid, tried on a warm room of its own, once in a day.

What was found is kept beside the server's program, so that the parts of the bench can be run one by one.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import httpx

from tests.bench import clients, rooms
from tests.bench.figures import Run
from tests.bench.peers import CORES, Choice, llama_server, server_program

ROOM = 7  # no subject measures with this one
FILL_REQUESTS = 12
REQUESTS = 24
ANSWER_TOKENS = 48
KEPT_SECONDS = 24 * 3600


def best(run: Run, num_clients: int) -> Choice:
    """The settings that answer this many clients fastest."""
    if not run.best:
        run.best.update(_kept())
    if num_clients not in run.best:
        run.best[num_clients] = _search(run, num_clients)
        found = {number: dataclasses.asdict(each) for number, each in run.best.items()}
        _file().write_text(json.dumps(found), encoding="utf-8")
    run.note(f"llama-server's best settings for {num_clients} clients: {run.best[num_clients]}")
    return run.best[num_clients]


def _search(run: Run, num_clients: int) -> Choice:
    """One axis after the other: attention and pool, threads, host cache, slots."""
    run.say(f"trying llama-server's settings with {num_clients} clients")
    rates: dict[Choice, float] = {}

    def fastest(*candidates: Choice) -> Choice:
        for each in candidates:
            if each not in rates:
                rates[each] = _rate(run, each, num_clients)
                run.say(f"  {rates[each]:.2f} requests/s: {each}")
        return max(candidates, key=lambda each: rates[each])

    first = Choice(slots=num_clients)  # else as it comes
    if run.best:  # another number of clients: what was best before, against what it comes with
        return fastest(first, *(dataclasses.replace(each, slots=num_clients) for each in run.best.values()))
    pools = [(unified, flash) for unified in (False, True) for flash in (True, False)]
    found = fastest(*(dataclasses.replace(first, unified=unified, flash=flash) for unified, flash in pools))
    found = fastest(
        found, *(dataclasses.replace(found, threads=n) for n in range(1, CORES) if n & (n - 1) == 0)
    )
    found = fastest(found, dataclasses.replace(found, cache_ram=False))
    found = fastest(found, dataclasses.replace(found, slots=8 if num_clients == 16 else 16))
    run.note(
        f"llama-server, {num_clients} clients, warm: {rates[found]:.2f} requests/s at its best, "
        f"{rates[first]:.2f} as it comes"
    )
    return found


def _rate(run: Run, choice: Choice, num_clients: int) -> float:
    room = rooms.room(ROOM)
    rate = 0.0
    with llama_server(run.folder(), choice) as server:
        for begin, count in ((0, max(FILL_REQUESTS, num_clients)), (1000, REQUESTS)):
            questions = [room.messages(begin + n) for n in range(count)]
            try:
                done = clients.crowd(server, questions, clients=num_clients, max_tokens=ANSWER_TOKENS)
            except httpx.TimeoutException:  # two threads too many on a busy machine: not the best, then
                return 0.0
            rate = done.rate
    return rate


def _file() -> Path:
    return server_program().with_name("best.json")


def _kept() -> dict[int, Choice]:
    """What was found on this machine today."""
    path = _file()
    if not path.exists() or time.time() - path.stat().st_mtime > KEPT_SECONDS:
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {int(number): Choice(**each) for number, each in found.items()}
