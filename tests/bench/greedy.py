"""Greedy answers beside others, and alone: how many are the same, token by token."""

from __future__ import annotations

import asyncio

from tests.bench import clients, ourselves, rooms, tuning
from tests.bench.bare import Job, Setting
from tests.bench.figures import Row, Run
from tests.bench.peers import CELLS, CORES, Server, has_llama_server, llama_server
from tests.bench.streams import bare

STREAMS = 8
TOKENS = 48
ROUNDS = 2
# The library's kernels for 64 query tokens and more round differently (notes on the engine, §7).
SMALL_CHUNK = 32
MODES = tuple(Setting(unified, flash, CORES) for unified in (True, False) for flash in (False, True))


def run(run: Run) -> list[Row]:
    """Shares of answers that are the same as in a batch of one."""
    asked = [[rooms.story(1000 + STREAMS * number + n) for n in range(STREAMS)] for number in range(ROUNDS)]
    library = {mode: _library(asked, mode) for mode in MODES}
    for mode, share in library.items():
        run.note(f"bare library, {mode}, {STREAMS} together: {share:.0%} as alone")
    mine = asyncio.run(_worker(asked))
    possible = max(library.values())
    label = f"greedy answers as in a batch of one, {STREAMS} together"
    rows = [Row(label, "share", mine, "bare library at its most faithful", possible, 1.0)]
    if has_llama_server():
        rows.append(Row(label, "share", mine, "llama-server", _llama_server(run, asked)))
    return rows


def _library(asked: list[list[rooms.Messages]], mode: Setting) -> float:
    """Where the library itself makes it possible, read in chunks that keep to one kernel."""
    jobs = [Job(mode, each, TOKENS, CELLS, SMALL_CHUNK) for each in asked]
    jobs += [Job(mode, [one], TOKENS, CELLS, SMALL_CHUNK) for each in asked for one in each]
    done = bare(jobs)
    together = [tokens for each in done[:ROUNDS] for tokens in each.tokens]
    return _share([tokens == alone.tokens[0] for tokens, alone in zip(together, done[ROUNDS:], strict=True)])


async def _worker(asked: list[list[rooms.Messages]]) -> float:
    """Through our worker: the texts tell, since each token's text is in them."""
    same = []
    for each in asked:
        async with ourselves.engine() as engine:
            together = await asyncio.gather(*(ourselves.hear(engine, one, max_tokens=TOKENS) for one in each))
        async with ourselves.engine() as engine:
            for heard, one in zip(together, each, strict=True):
                alone = await ourselves.hear(engine, one, max_tokens=TOKENS)
                same.append(alone.text == heard.text)
    return _share(same)


def _llama_server(run: Run, asked: list[list[rooms.Messages]]) -> float:
    best = tuning.best(run, STREAMS)
    same = []
    with llama_server(run.folder(), best) as server:
        together = [asyncio.run(_at_once(server, each)) for each in asked]
    with llama_server(run.folder(), best) as server:
        for each, texts in zip(asked, together, strict=True):
            for one, text in zip(each, texts, strict=True):
                alone = clients.crowd(server, [one], clients=1, max_tokens=TOKENS)
                same.append(alone.answers[0].text == text)
    return _share(same)


async def _at_once(server: Server, each: list[rooms.Messages]) -> list[str]:
    async with clients.visiting(server) as client:
        answers = await asyncio.gather(*(clients.ask(client, one, max_tokens=TOKENS) for one in each))
    return [answer.text for answer in answers]


def _share(same: list[bool]) -> float:
    return sum(same) / len(same)
