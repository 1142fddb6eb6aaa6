"""An hour's worth of everything, in minutes: what leaks shows, and the record stays whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.harness import Gateway, gateway, question, wait_until
from tests.records import assert_verified

CLIENTS = 24
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2, 3]}}, "required": ["a"]}
# What a request does, and how often.
MIX = {
    "whole": 50,
    "stream": 20,
    "leaves a stream": 8,
    "leaves": 4,
    "too long": 4,
    "bad schema": 4,
    "schema": 4,
    "reproducible": 2,
    "embedding": 4,
}


@dataclass
class Soak:
    """One run's plan and what came of it."""

    running: Gateway
    num_requests: int
    max_tokens: int
    kill_every: int
    draw: random.Random = field(default_factory=lambda: random.Random(20))
    statuses: Counter[str] = field(default_factory=Counter)
    num_kills: int = 0

    async def run(self) -> None:
        """Everything, `CLIENTS` at a time, with a worker killed now and then."""
        todo = iter(range(self.num_requests))
        headers = [{"authorization": f"Bearer {key}"} for key in self.keys()]
        limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=self.running.url, timeout=120, limits=limits) as client:

            async def visitor() -> None:
                for number in todo:
                    if number % self.kill_every == self.kill_every - 1:
                        self.kill()
                    kind = self.draw.choices(list(MIX), list(MIX.values()))[0]
                    status = await self.ask(client, number, kind, self.draw.choice(headers))
                    self.statuses[f"{kind}: {status}"] += 1
                    if status == "503":  # the worker was killed: come back when it may be there again
                        await asyncio.sleep(1)

            await asyncio.gather(*(visitor() for _ in range(CLIENTS)))

    def keys(self) -> list[str]:
        return [self.running.key(Role.KIOSK)]

    def kill(self) -> None:
        with contextlib.suppress(AssertionError, ProcessLookupError, FileNotFoundError):
            os.kill(self.running.worker_pid, signal.SIGKILL)
            self.num_kills += 1

    async def ask(self, client: httpx.AsyncClient, number: int, kind: str, headers: dict[str, str]) -> str:
        text = f"echo: {number} " + "lorem ipsum " * self.draw.randrange(1, 12)
        path, body = "/v1/chat/completions", question(text, max_tokens=self.max_tokens)
        match kind:
            case "too long":
                body = question("far too long " * 9000)
            case "bad schema":
                body["response_format"] = shaped({"type": self.draw.choice(["strin", 7, None])})
            case "schema":
                body["response_format"] = shaped(SCHEMA)
            case "reproducible":
                body["reproducible"] = True
            case "embedding":
                path, body = "/v1/embeddings", {"model": "default", "input": [text, "another"]}
        if "stream" in kind:
            return await self.stream(client, body | {"stream": True}, headers, leaves=kind != "stream")
        try:
            patience = self.draw.uniform(0.001, 0.1) if kind == "leaves" else 120
            answer = await client.post(path, json=body, headers=headers, timeout=patience)
        except httpx.TimeoutException:
            return "left"
        return str(answer.status_code)

    async def stream(
        self, client: httpx.AsyncClient, body: dict[str, Any], headers: dict[str, str], *, leaves: bool
    ) -> str:
        lines = self.draw.randrange(4)
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            async for _ in answer.aiter_lines():
                lines -= 1
                if leaves and lines < 0:
                    return "left"
        return str(answer.status_code)


def shaped(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def figure(metrics: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert found, name
    return float(found[1])


def assert_idle(running: Gateway) -> None:
    """Nobody runs or waits, and nobody who runs holds a cell."""
    model = "smollm2-135m-instruct"
    with running.client(Role.OPERATOR) as operator:

        def idle() -> bool:
            text = operator.get("/metrics").text
            return not any(
                figure(text, name)
                for name in (
                    f'appliance_sequences{{model="{model}",state="running"}}',
                    f'appliance_sequences{{model="{model}",state="waiting"}}',
                    f'appliance_cells{{holder="running",model="{model}"}}',
                )
            )

        running.wait_ready(seconds=60)
        running.chat("echo: one more", max_tokens=2)  # so that a new worker has figures
        wait_until(idle, seconds=30)


def assert_one_end_each(running: Gateway) -> int:
    """Every opening has exactly one closing; the number of openings."""
    found: dict[Kind, Counter[str]] = {}
    for kind in (Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED):
        records = query.search(running.home.database, kind=kind, limit=100_000)
        found[kind] = Counter(str(each.request_id) for each in records)
    assert found[Kind.REQUEST_OPENED] == found[Kind.REQUEST_CLOSED]
    assert set(found[Kind.REQUEST_OPENED].values()) == {1}
    return len(found[Kind.REQUEST_OPENED])


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """On the screen of whoever waits for it, whether the test fails or not."""
    with capsys.disabled():
        sys.stdout.write(f"\n{text}")


def soak(
    root: Path,
    worker: Literal["fake", "model"],
    *,
    warm: int,
    count: int,
    max_tokens: int,
    kill_every: int,
    told: Callable[[str], None],
) -> None:
    """Warm up, remember what is held, do everything, and see what is held then."""
    toml = "[engine]\nn_seq_max = 8\nprefix_cache_cells = 1024\nrestart_backoff_max_seconds = 1\n"
    toml += "[limits.kiosk]\nrequests_per_minute = 0\n"
    with gateway(root, worker=worker, toml=toml) as running:
        asyncio.run(Soak(running, warm, max_tokens, warm + 1).run())
        assert_idle(running)
        memory, files = rss_mib(running.pid), descriptors(running.pid)
        worker_memory, worker_files = rss_mib(running.worker_pid), descriptors(running.worker_pid)
        run = Soak(running, count, max_tokens, kill_every)
        asyncio.run(run.run())
        assert_idle(running)
        told(f"{dict(sorted(run.statuses.items()))}, {run.num_kills} workers killed")
        told(
            f"gateway {memory:.0f} -> {rss_mib(running.pid):.0f} MiB, {files} -> {descriptors(running.pid)} "
            f"files; worker {worker_memory:.0f} -> {rss_mib(running.worker_pid):.0f} MiB"
        )
        assert rss_mib(running.pid) < memory + 64
        assert rss_mib(running.worker_pid) < worker_memory * 1.25 + 32
        assert descriptors(running.pid) <= files + 4
        assert descriptors(running.worker_pid) <= worker_files + 1
        assert run.num_kills >= count // kill_every - 1
        statuses = {status.rsplit(": ", 1)[1] for status in run.statuses}
        assert statuses <= {"200", "400", "503", "left"}
        assert run.statuses["whole: 200"] > count / 4
        assert not any(status.startswith("too long: 200") for status in run.statuses)
    openings = assert_one_end_each(running)
    assert openings > 0.6 * count
    assert_verified(running.home)


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_ten_thousand_mixed_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Disconnects, kills, long prompts and bad schemas: nothing leaks, one opening and one closing each."""
    soak(
        tmp_path / "home",
        "fake",
        warm=1500,
        count=10_000,
        max_tokens=24,
        kill_every=2_500,
        told=lambda text: show(capsys, text),
    )


@pytest.mark.model
@pytest.mark.timeout(900)
def test_five_hundred_on_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same over the real model."""
    soak(
        tmp_path / "home",
        "model",
        warm=60,
        count=500,
        max_tokens=6,
        kill_every=200,
        told=lambda text: show(capsys, text),
    )
