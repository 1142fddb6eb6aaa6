"""Many callers and one that floods: what the others notice of it, and what it leaves behind.

All over loopback, so that callers and appliance share these cores. The flooding key's connections ask
again the moment they are answered, whatever they are told; they live in a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from appliance.terms import Limits, Terms
from tests.bench import tuned
from tests.bench.figures import Row, Run, percentile
from tests.bench.peers import PeerFailed
from tests.harness import Gateway, gauge_of
from tests.homes import make_home

OTHER_KEYS, CLIENTS_OF_A_KEY, FLOODING = 20, 5, 100
ANSWER_TOKENS = 8
WARM_SECONDS, SECONDS = 6.0, 24.0
GROWTH_TARGET, MEMORY_TARGET = 1.5, 1.15
MAX_INSIDE = 256 + 16  # engine.max_waiting and n_seq_max, as they are by default
_REFUSED = re.compile(rb'"code": ?"([a-z_]+)"')


@dataclass
class Heard:
    """What some callers were told."""

    seconds: list[float] = field(default_factory=list)  # of answers
    refused: Counter[str] = field(default_factory=Counter)  # by code


def run(run: Run) -> list[Row]:
    """Seconds, answers, MiB; the flood with the limits that every kiosk's key has by default."""
    with _serving(run) as running:
        key = running.key(Role.OPERATOR)
        keys = [
            running.key(Role.KIOSK, terms=Terms(limits=Limits(priority=6))) for _ in range(OTHER_KEYS + 1)
        ]
        asyncio.run(_crowd(running.url, keys[1:], WARM_SECONDS))
        before = _rss_mib(running.pid)
        alone = asyncio.run(_crowd(running.url, keys[1:], SECONDS))
        flooding = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load", running.url, keys[0], str(SECONDS + 2)],
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(2)  # until it floods
        beside, longest = asyncio.run(_watched(running, key, keys[1:]))
        flood_heard, _ = flooding.communicate(timeout=120)
        after = _rss_mib(running.pid)
        running.stop()
        recorded = _recorded(running)
    flood = json.loads(flood_heard)
    sent = Counter(flood["refused"]) + beside.refused + alone.refused
    slow, fast = percentile(beside.seconds, 0.95), percentile(alone.seconds, 0.95)
    run.note(
        f"load: {OTHER_KEYS} keys with {CLIENTS_OF_A_KEY} clients each, beside one key with {FLOODING} "
        f"connections that never wait; answers of {ANSWER_TOKENS} tokens by the starter model, "
        f"{SECONDS:g} s each. The others had {len(alone.seconds)} answers alone and {len(beside.seconds)} "
        f"beside the flood, and {sum(beside.refused.values())} refusals; the flood {flood['answers']} "
        f"answers and {sum(flood['refused'].values())} refusals ({_told(flood['refused'])})"
    )
    return [
        Row("the other keys' p95 beside a flood", "s", slow, "alone", fast, at_most=GROWTH_TARGET),
        Row("longest line, sampled", "answers", longest, "bound", MAX_INSIDE, at_most=1.0),
        Row("gateway, RSS behind the flood", "MiB", after, "before", before, at_most=MEMORY_TARGET),
        Row("refusals on the record", "", sum(recorded.values()), "told", sum(sent.values()), at_least=1.0),
    ]


@contextlib.contextmanager
def _serving(run: Run) -> Iterator[Gateway]:
    root = run.folder()
    root.parent.mkdir(parents=True, exist_ok=True)
    running = Gateway(home=make_home(root), worker="model")
    tuned.keep(running.home)
    try:
        yield running.start()
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


async def _watched(running: Gateway, key: str, keys: list[str]) -> tuple[Heard, float]:
    """The others' answers, and the longest line that was seen meanwhile."""
    longest = 0.0
    async with httpx.AsyncClient(
        base_url=running.url, headers={"authorization": f"Bearer {key}"}, timeout=30, trust_env=False
    ) as client:

        async def watch() -> None:
            nonlocal longest
            while True:
                text = (await client.get("/metrics")).text
                longest = max(longest, gauge_of(text, "appliance_queue_waiting"))
                await asyncio.sleep(1)

        watching = asyncio.create_task(watch())
        heard = await _crowd(running.url, keys, SECONDS)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return heard, longest


async def _crowd(url: str, keys: list[str], seconds: float) -> Heard:
    """So many clients of each key, each asking the next question when it has its answer."""
    heard = Heard()
    until = time.monotonic() + seconds
    clients = [_client(url, key, number, until, heard) for key in keys for number in range(CLIENTS_OF_A_KEY)]
    await asyncio.gather(*clients)
    if not heard.seconds:
        raise PeerFailed("nobody was answered")
    return heard


async def _client(url: str, key: str, number: int, until: float, heard: Heard) -> None:
    """One connection, kept; what it was still told when the time is over counts."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    asked = 0
    while time.monotonic() < until:
        asked += 1
        body = json.dumps(
            {
                "model": "default",
                "messages": [{"role": "user", "content": f"Name {number + asked % 50} forms."}],
                "max_tokens": ANSWER_TOKENS,
            }
        ).encode()
        began = time.monotonic()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: appliance\r\ncontent-type: application/json\r\n"
            + f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        answer = await reader.readexactly(int(length[1]) if length else 0)
        if head.startswith(b"HTTP/1.1 200"):
            heard.seconds.append(time.monotonic() - began)
        else:
            code = _REFUSED.search(answer)
            heard.refused[code[1].decode() if code else "unknown"] += 1
    writer.close()


async def _flood(url: str, key: str, seconds: float) -> Heard:
    heard = Heard()
    until = time.monotonic() + seconds
    await asyncio.gather(*(_client(url, key, number, until, heard) for number in range(FLOODING)))
    return heard


def _recorded(running: Gateway) -> Counter[str]:
    """Refusals by code as the record counts them."""
    counts: Counter[str] = Counter()
    before: int | None = None
    while found := query.search(
        running.home.database, kind=Kind.REQUEST_REFUSED, before_seq=before, limit=10_000
    ):
        for each in found:
            counts[str(each.public["code"])] += int(each.public["count"])
        before = found[-1].seq
    return counts


def _rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    if found is None:
        raise PeerFailed("the gateway has gone")
    return int(found[1]) / 1024


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(counts.items()))


if __name__ == "__main__":
    told = asyncio.run(_flood(sys.argv[1], sys.argv[2], float(sys.argv[3])))
    sys.stdout.write(json.dumps({"answers": len(told.seconds), "refused": told.refused}))
