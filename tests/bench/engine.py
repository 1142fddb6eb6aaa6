"""The engine: tokens through the whole worker against the bare library loop, in one run."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

import numpy as np

from appliance.clock import SystemClock
from appliance.config import Engine as EngineSettings
from appliance.core import ChatMessage, Finished, InferenceRequest, ModelSpec, SamplingParams, Started
from appliance.engine.messages import LoadModel, Turn
from appliance.engine.supervisor import Engine
from appliance.engine.worker.backend import BatchItem
from appliance.engine.worker.llama import LlamaBackend
from appliance.engine.worker.prompt import PromptBuilder
from tests.starter import starter_model

TOKENS = 160
TEXT = "Write a long story about a river, a bridge and a lighthouse keeper."
SETTINGS = EngineSettings()


def run(scratch: Path) -> dict[str, str]:
    """Figures by label: decode tokens/s, first token to last."""
    del scratch
    figures: dict[str, str] = {}
    for streams in (1, 8, 16):
        bare = _bare(streams)
        whole = asyncio.run(_whole(streams))
        figures[f"bare loop, {streams} streams, tokens/s"] = f"{bare:.0f}"
        figures[f"through the worker, {streams} streams, tokens/s"] = f"{whole:.0f}"
        figures[f"ratio, {streams} streams"] = f"{whole / bare:.2f}"
    return figures


def _load() -> LoadModel:
    return LoadModel(
        "starter",
        str(starter_model()),
        SETTINGS.n_ctx,
        SETTINGS.n_seq_max,
        SETTINGS.n_batch,
        0,
        0,
        0,
        64,
        SETTINGS.step_target_ms * 1000,
        SETTINGS.prefix_cache_cells,
    )


def _bare(streams: int) -> float:
    """Greedy decoding of equal prompts, nothing but the library around it."""
    backend = LlamaBackend(_load())
    prompt = PromptBuilder(backend).build([Turn("user", TEXT)])
    batch = [
        BatchItem(token, at, seq, wants_logits=at == len(prompt) - 1)
        for seq in range(streams)
        for at, token in enumerate(prompt)
    ]
    rows = []
    for begin in range(0, len(batch), SETTINGS.n_batch):
        part = batch[begin : begin + SETTINGS.n_batch]
        backend.decode(part)
        rows += [int(np.argmax(backend.logits(row))) for row, item in enumerate(part) if item.wants_logits]
    tokens = rows
    began = time.monotonic()
    for step in range(TOKENS):
        backend.decode(
            [BatchItem(token, len(prompt) + step, seq, wants_logits=True) for seq, token in enumerate(tokens)]
        )
        tokens = [int(np.argmax(backend.logits(row))) for row in range(streams)]
    took = time.monotonic() - began
    backend.close()
    return streams * TOKENS / took


async def _whole(streams: int) -> float:
    """The same work asked of the engine as the gateway asks it."""
    path = starter_model()
    spec = ModelSpec(id="starter", sha256=path.name, size_bytes=path.stat().st_size, path=path)
    engine = Engine(spec, SETTINGS, clock=SystemClock(), on_event=lambda _event: None)
    await engine.start()
    await engine.wait_ready(60)
    request = InferenceRequest(
        "req", "starter", (ChatMessage("user", TEXT),), SamplingParams(temperature=0, max_tokens=TOKENS)
    )
    ends: list[tuple[float, float, int]] = []

    async def one(number: int) -> None:
        began = 0.0
        async for item in engine.generate(dataclasses.replace(request, request_id=f"req_{number}")):
            if not isinstance(item, Started) and not began:
                began = time.monotonic()
            if isinstance(item, Finished):
                ends.append((began, time.monotonic(), item.usage.completion_tokens))

    await asyncio.gather(*(one(number) for number in range(streams)))
    await engine.stop()
    began = max(first for first, _, _ in ends)
    return sum(tokens for _, _, tokens in ends) / (max(last for _, last, _ in ends) - began)
