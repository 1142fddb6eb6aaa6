"""This engine beside llama-server on a GPU: one model of noise in the shape of eight billion weights.

Run by `make test-gpu` where there is a GPU. So many askers at once, each with a prompt of its own of about
500 tokens and an answer of 128; tokens written by the time of the whole round, the median of three rounds.
Our side is the engine with its worker, llama-server answers over HTTP on the same machine.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from appliance.clock import SystemClock
from appliance.core import ModelSpec
from appliance.engine import devices
from appliance.engine.messages import Ready
from appliance.engine.supervisor import Engine
from appliance.engine_settings import Engine as EngineSettings
from tests.bench import clients, ourselves, rooms
from tests.bench.peers import Choice, has_llama_server, llama_server, server_program
from tests.bench.rooms import Messages

BATCHES = (1, 8, 32)
ROUNDS = 3
TOKENS = 128
CELLS = 32 * 1024
PROMPT_CHARACTERS = 500  # bytes of the synthetic vocabulary are its tokens
RESULTS = Path(__file__).with_name("gpu.md")
_LOAD_SECONDS = 600.0
_BEGIN, _END = "<!-- figures -->\n", "<!-- /figures -->\n"


def has_server() -> bool:
    """Whether there is something to compare with."""
    return has_llama_server()


def measure(model: Path, scratch: Path) -> str:
    """Measure both, and put the table into `gpu.md`; its text."""
    ready, ours = asyncio.run(_ours(model))
    theirs = _theirs(model, scratch)
    lines = [
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, commit {_commit()}, {ready.backend}",
        "",
        f"{ready.description}, {ready.library}; tokens/s of all askers together, medians of {ROUNDS} rounds",
        "",
        "| at once | here | llama-server | ratio |",
        "|---|---|---|---|",
        *(
            f"| {each} | {ours[each]:.0f} | {theirs[each]:.0f} | {ours[each] / theirs[each]:.2f} |"
            for each in BATCHES
        ),
        "",
    ]
    text = RESULTS.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    text = before + _BEGIN + "\n".join(lines) + "\n" + _END + after
    RESULTS.write_text(text, encoding="utf-8")
    return text


async def _ours(model: Path) -> tuple[Ready, dict[int, float]]:
    spec = ModelSpec(id="noise", sha256="0" * 64, size_bytes=model.stat().st_size, path=model)
    settings = EngineSettings(
        device="cuda",
        n_ctx=CELLS,
        n_seq_max=max(BATCHES),
        prefix_cache_cells=0,
        speculation=False,
        load_timeout_seconds=int(_LOAD_SECONDS),
    )
    engine = Engine(spec, settings, clock=SystemClock(), on_event=lambda _event: None)
    await engine.start()
    try:
        if not await engine.wait_ready(_LOAD_SECONDS):
            raise RuntimeError(f"the worker is not ready: {engine.status.last_error}")
        ready = engine.status.ready
        assert ready is not None

        async def round_of(asked: list[Messages]) -> float:
            began = time.monotonic()
            heard = await asyncio.gather(*(ourselves.hear(engine, each, max_tokens=TOKENS) for each in asked))
            return sum(count for each in heard for _, count in each.ticks) / (time.monotonic() - began)

        found = {}
        for batch in BATCHES:
            await round_of(_asked(batch, 0))
            found[batch] = median([await round_of(_asked(batch, number + 1)) for number in range(ROUNDS)])
        return ready, found
    finally:
        await engine.stop()


def _theirs(model: Path, scratch: Path) -> dict[int, float]:
    """llama-server with the same backend: its own libraries, and ours for the GPU beside them."""
    library = devices.gpu_library()
    assert library is not None
    folder = scratch / "server"
    shutil.copytree(server_program().parent, folder)
    shutil.copyfile(library, folder / library.name)
    for each in devices.runtime_libraries(library.parent):
        (folder / each.name).symlink_to(each)
    choice = Choice(slots=max(BATCHES), unified=False, flash=True, cache_ram=False)
    program = folder / server_program().name
    options = ["--n-gpu-layers", "999"]
    found = {}
    with llama_server(
        scratch / "peer", choice, model=model, program=program, options=options, cells=CELLS
    ) as server:

        def round_of(asked: list[Messages]) -> float:
            done = clients.crowd(server, asked, clients=len(asked), max_tokens=TOKENS)
            return sum(each.tokens for each in done.answers) / done.seconds

        for batch in BATCHES:
            found[batch] = _median(batch, round_of)
    return found


def _median(batch: int, round_of: Callable[[list[Messages]], float]) -> float:
    round_of(_asked(batch, 0))
    return median([round_of(_asked(batch, number + 1)) for number in range(ROUNDS)])


def _line(batch: int, ours: float, theirs: float) -> str:
    return f"| {batch} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |"


def _asked(batch: int, number: int) -> list[Messages]:
    """Prompts that share nothing."""
    first = (number * len(BATCHES) + BATCHES.index(batch)) * max(BATCHES)
    letters = [rooms.letter(first + each)[-1]["content"] for each in range(batch)]
    return [[{"role": "user", "content": each[:PROMPT_CHARACTERS]}] for each in letters]


def _commit() -> str:
    command = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
