"""A kiosk room: one long system prompt, short questions, eight at once; with shared prefixes and without."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx

from tests.harness import Gateway, gateway, question

CLIENTS = 8
ANSWER_TOKENS = 48
SYSTEM = " ".join(
    f"Rule {n}: form {n} is handed in on floor {n % 5}, room {n * 7 % 90}, by day {n % 28 + 1}."
    for n in range(26)
)
WORDS = ("Where do I hand in form {n}?", "Who helps me with form {n}?", "Until when can I hand in form {n}?")


def run(scratch: Path) -> dict[str, str]:
    """Figures by label."""
    shared = _room(scratch / "shared", cells=2048, rounds=3, requests=32)
    alone = _room(scratch / "alone", cells=0, rounds=1, requests=16)
    return {
        "kiosk room, first 32 requests, requests/s": f"{shared[0]:.2f}",
        "kiosk room, warm, requests/s": f"{shared[-1]:.2f}",
        "kiosk room without sharing, requests/s": f"{alone[0]:.2f}",
        "ratio, first": f"{shared[0] / alone[0]:.1f}",
        "ratio, warm": f"{shared[-1] / alone[0]:.1f}",
    }


def _room(root: Path, *, cells: int, rounds: int, requests: int) -> list[float]:
    root.parent.mkdir(parents=True, exist_ok=True)
    with gateway(root, worker="model", toml=f"[engine]\nprefix_cache_cells = {cells}\n") as running:
        running.key()
        return [asyncio.run(_round(running, requests, number)) for number in range(rounds)]


async def _round(running: Gateway, requests: int, number: int) -> float:
    headers = {"authorization": f"Bearer {running.key()}"}
    waiting = asyncio.Semaphore(CLIENTS)
    async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=300) as client:

        async def ask(n: int) -> None:
            text = WORDS[n % len(WORDS)].format(n=n + 100 * number)
            body = question(text, max_tokens=ANSWER_TOKENS)
            body["messages"].insert(0, {"role": "system", "content": SYSTEM})
            async with waiting:
                answer = await client.post("/v1/chat/completions", json=body)
            answer.raise_for_status()

        began = time.monotonic()
        await asyncio.gather(*(ask(n) for n in range(requests)))
        return requests / (time.monotonic() - began)
