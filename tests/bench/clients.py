"""The people who ask: one client code for every server, in one event loop."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from tests.bench.peers import Server
from tests.bench.rooms import Messages

TIMEOUT_SECONDS = 180.0
_PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, by the client's clock."""

    text: str
    prompt_tokens: int  # 0 where it was streamed
    tokens: int  # 0 where it was streamed
    began: float
    ticks: tuple[float, ...] = ()  # when each piece with text arrived

    @property
    def ttft(self) -> float:
        """Seconds to the first piece."""
        return self.ticks[0] - self.began

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces."""
        return [after - before for before, after in itertools.pairwise(self.ticks)]


@dataclass(frozen=True, slots=True)
class Round:
    """What a crowd got."""

    seconds: float
    answers: tuple[Answer, ...]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.answers) / self.seconds


@asynccontextmanager
async def visiting(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of this server."""
    # A connection for each request: servers close idle ones at moments of their own.
    limits = httpx.Limits(max_connections=128, max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=server.url,
        headers=server.headers,
        timeout=TIMEOUT_SECONDS,
        limits=limits,
        trust_env=False,  # loopback: no proxy stands between
    ) as client:
        yield client


async def ask(client: httpx.AsyncClient, messages: Messages, *, max_tokens: int) -> Answer:
    """One greedy answer in one piece."""
    began = time.monotonic()
    response = await client.post(_PATH, json=_body(messages, max_tokens))
    response.raise_for_status()
    answer = response.json()
    usage = answer["usage"]
    return Answer(
        answer["choices"][0]["message"]["content"] or "",
        usage["prompt_tokens"],
        usage["completion_tokens"],
        began,
    )


async def listen(
    client: httpx.AsyncClient, messages: Messages, *, max_tokens: int, until: float | None = None
) -> Answer:
    """One greedy answer as a stream; left in the middle where `until` (monotonic) comes first."""
    began = time.monotonic()
    ticks: list[float] = []
    pieces: list[str] = []
    body = {**_body(messages, max_tokens), "stream": True}
    async with client.stream("POST", _PATH, json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line.removeprefix("data: "))["choices"]
                if choices and (text := choices[0]["delta"].get("content")):
                    ticks.append(time.monotonic())
                    pieces.append(text)
            if until is not None and time.monotonic() > until:
                break
    return Answer("".join(pieces), 0, 0, began, tuple(ticks))


def crowd(
    server: Server, questions: Sequence[Messages], *, clients: int, max_tokens: int, stream: bool = False
) -> Round:
    """So many clients, each asking the next question as soon as it has its answer."""
    return asyncio.run(_crowd(server, questions, clients=clients, max_tokens=max_tokens, stream=stream))


async def _crowd(
    server: Server, questions: Sequence[Messages], *, clients: int, max_tokens: int, stream: bool
) -> Round:
    waiting: Iterator[Messages] = iter(questions)
    answers: list[Answer] = []
    way = listen if stream else ask
    async with visiting(server) as client:

        async def one() -> None:
            while (messages := next(waiting, None)) is not None:
                answers.append(await way(client, messages, max_tokens=max_tokens))

        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(clients)))
        return Round(time.monotonic() - began, tuple(answers))


def _body(messages: Messages, max_tokens: int) -> dict[str, object]:
    return {"model": "default", "messages": messages, "max_tokens": max_tokens, "temperature": 0}
