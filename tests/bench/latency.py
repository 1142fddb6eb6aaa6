"""Waiting: gaps between tokens while long prompts arrive, and the first token in a busy room."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import httpx

from tests.bench import clients, ourselves, rooms, tuning
from tests.bench.figures import Row, Run, percentile
from tests.bench.peers import Server, has_llama_server, llama_server, ours

STREAMS = 6
STREAM_TOKENS = 120
WINDOW_SECONDS = 20.0
ARRIVAL_SECONDS = 2.0  # between two long prompts
ARRIVAL_TOKENS = 8
GAP_TARGET = 2.5  # p95 against p50

BUSY_CLIENTS = 8
BUSY_ROOM = 5
BUSY_TOKENS = 48
WARM_REQUESTS = 16
PROBES = 40
PROBE_PAUSE_SECONDS = 0.3
PROBE_TOKENS = 8
TTFT_TARGET = 0.5

# Asks one conversation until a moment, and tells the gaps between the pieces of its answer.
Ask = Callable[[rooms.Messages, int, float], Awaitable[list[float]]]


def run(run: Run) -> list[Row]:
    """Milliseconds, all of them."""
    rows = [_gap_row("gaps at the worker, p95 against its p50", asyncio.run(_worker_gaps()), GAP_TARGET)]
    with ours(run.folder(), toml='[audit]\nstream = "final"\n') as server:
        gaps = asyncio.run(_server_gaps(server))
        rows.append(_gap_row('gaps over HTTP, audit.stream = "final"', gaps, GAP_TARGET))
    if has_llama_server():
        best = tuning.best(run, BUSY_CLIENTS)
        with llama_server(run.folder(), best) as server:
            rows.append(_gap_row("gaps of llama-server", asyncio.run(_server_gaps(server)), None))
    run.note(
        f"gaps: {STREAMS} streams, a prompt of about 700 tokens every {ARRIVAL_SECONDS:g} s, for "
        f"{WINDOW_SECONDS:g} s; in strict mode the record's segments hide the gaps"
    )
    return [*rows, _busy(run)]


def _gap_row(label: str, gaps: list[float], target: float | None) -> Row:
    middle, tail = (percentile(gaps, share) * 1000 for share in (0.5, 0.95))
    return Row(label, "ms", tail, "the same, p50", middle, at_most=target)


async def _worker_gaps() -> list[float]:
    async with ourselves.engine() as engine:

        async def ask(messages: rooms.Messages, max_tokens: int, until: float) -> list[float]:
            return (await ourselves.hear(engine, messages, max_tokens=max_tokens, until=until)).gaps

        return await _gaps(ask)


async def _server_gaps(server: Server) -> list[float]:
    async with clients.visiting(server) as client:

        async def ask(messages: rooms.Messages, max_tokens: int, until: float) -> list[float]:
            return (await clients.listen(client, messages, max_tokens=max_tokens, until=until)).gaps

        return await _gaps(ask)


async def _gaps(ask: Ask) -> list[float]:
    """Streams that follow one another in each place, and long prompts that arrive meanwhile."""
    await ask(rooms.story(0), 4, time.monotonic() + WINDOW_SECONDS)  # the first answer warms everything
    end = time.monotonic() + WINDOW_SECONDS
    found: list[float] = []
    numbers = itertools.count(1)

    async def place() -> None:
        while time.monotonic() < end:
            found.extend(await ask(rooms.story(next(numbers)), STREAM_TOKENS, end))

    async def arrivals() -> None:
        async with asyncio.TaskGroup() as group:
            while time.monotonic() + ARRIVAL_SECONDS < end:
                await asyncio.sleep(ARRIVAL_SECONDS)
                group.create_task(_arrive(next(numbers)))

    async def _arrive(number: int) -> None:
        await ask(rooms.letter(number), ARRIVAL_TOKENS, end)

    await asyncio.gather(arrivals(), *(place() for _ in range(STREAMS)))
    return found


def _busy(run: Run) -> Row:
    """p95 of the time to the first piece of a short question, in strict mode on our side."""
    with ours(run.folder()) as server:
        mine = percentile(asyncio.run(_probe(run, server)), 0.95) * 1000
    label = f"first token in a busy room of {BUSY_CLIENTS}, p95"
    if not has_llama_server():
        return Row(label, "ms", mine)
    # One slot more than the room has clients, so that the question need not wait for one.
    best = tuning.best(run, 2 * BUSY_CLIENTS)
    with llama_server(run.folder(), best) as server:
        peer = percentile(asyncio.run(_probe(run, server)), 0.95) * 1000
    return Row(label, "ms", mine, "llama-server", peer, at_most=TTFT_TARGET)


async def _probe(run: Run, server: Server) -> list[float]:
    room = rooms.room(BUSY_ROOM)
    numbers = itertools.count()
    async with clients.visiting(server) as client:

        async def asks(count: int) -> None:
            for _ in range(count):
                await clients.listen(client, room.messages(next(numbers)), max_tokens=BUSY_TOKENS)

        await asyncio.gather(*(asks(WARM_REQUESTS // BUSY_CLIENTS) for _ in range(BUSY_CLIENTS)))
        crowd = [asyncio.create_task(_forever(client, room, numbers)) for _ in range(BUSY_CLIENTS)]
        try:
            found = []
            for _ in range(PROBES):
                await asyncio.sleep(PROBE_PAUSE_SECONDS)
                messages = room.messages(next(numbers))
                found.append((await clients.listen(client, messages, max_tokens=PROBE_TOKENS)).ttft)
        finally:
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
    run.say(f"{server.name}: first token p50 {percentile(found, 0.5) * 1000:.0f} ms in a busy room")
    return found


async def _forever(client: httpx.AsyncClient, room: rooms.Room, numbers: itertools.count[int]) -> None:
    while True:
        await clients.listen(client, room.messages(next(numbers)), max_tokens=BUSY_TOKENS)
