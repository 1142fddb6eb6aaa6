"""Callers who leave, at every stage of their answer: what they held is free within two steps of the core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from appliance.engine.messages import Delta, Embedded, Failed, Finished, Setup
from appliance.engine.worker.core import EngineCore
from appliance.engine.worker.sequence import Sequence, Status
from tests.engines import LOAD, Bench
from tests.unit.engine.test_embedding import Bench as EmbeddingBench
from tests.unit.engine.test_embedding import job

WITHIN = 2  # steps of the core
SETUP = Setup(n_ctx=4096, n_batch=32, n_threads=1, flash_attn=False)
SCHEMA = '{"type": "array", "items": {"type": "integer"}, "minItems": 1000}'
LONG = "read this first, " * 40


@dataclass(frozen=True)
class Stage:
    """How a request comes to where its caller leaves, and how one sees that it is there."""

    name: str
    is_there: Callable[[Bench, Any], bool]
    text: str = "say 400 tokens"
    options: dict[str, Any] = field(default_factory=dict)
    neighbours: int = 1


def num_written(bench: Bench, name: str) -> int:
    return sum(each.num_tokens for each in bench.said if isinstance(each, Delta) and each.request_id == name)


def is_reading(_: Bench, sequence: Sequence) -> bool:
    return sequence.status is Status.PREFILL and 0 < sequence.num_computed < sequence.num_prompt


STAGES = [
    Stage("waiting", lambda _, it: it.status is Status.WAITING, neighbours=LOAD.n_seq_max),
    Stage("prefill", is_reading, text=LONG + "\nsay 400 tokens"),
    Stage("first token", lambda bench, _: num_written(bench, "leaves") == 1),
    Stage("mid-answer", lambda bench, _: num_written(bench, "leaves") > 40),
    Stage("guessed", lambda bench, _: num_written(bench, "leaves") > 40, text="echo: " + "la la " * 90),
    Stage("constrained", lambda bench, _: num_written(bench, "leaves") > 20, options={"schema": SCHEMA}),
    Stage("weighed", lambda bench, _: num_written(bench, "leaves") > 9, options={"top_logprobs": 5}),
    Stage("raw", lambda bench, _: num_written(bench, "leaves") > 9, options={"prompt": "say 400 tokens"}),
]


def held(core: EngineCore) -> tuple[int, ...]:
    """What requests hold: ids, cells that are no leaves', waiting ones."""
    pool = core._shared._scheduler
    return (
        len(pool._free_ids),
        pool.num_cells_used - pool.num_cells_cached,
        core._shared.num_waiting + core._alone.num_waiting,
        core._alone.num_running,
    )


@pytest.mark.parametrize("stage", STAGES, ids=[each.name for each in STAGES])
def test_what_a_caller_held_is_free_within_two_steps(stage: Stage) -> None:
    """Its id and its cells, at whatever moment; the others' answers are whole, and the end is said once."""
    bench = Bench()
    for number in range(stage.neighbours):
        bench.ask(f"stays {number}", "say 300 tokens")
    bench.run(4)
    before = held(bench.core)
    sequence = bench.ask("leaves", stage.text, **stage.options)
    for _ in range(200):
        if stage.is_there(bench, sequence):
            break
        bench.core.step()
    assert stage.is_there(bench, sequence)
    num_before = [num_written(bench, f"stays {number}") for number in range(stage.neighbours)]
    bench.core.abort("leaves")
    for _ in range(WITHIN):
        bench.core.step()

    free, used, waiting, _ = held(bench.core)
    grown = sum(num_written(bench, f"stays {number}") - num for number, num in enumerate(num_before))
    assert (free, waiting) == (before[0], 0)
    running = bench.core._shared._scheduler._running
    assert len(running) == stage.neighbours
    assert used == len({cell for each in running for cell in each.cells})
    assert grown >= WITHIN * stage.neighbours
    assert "leaves" not in bench.core._shared._sequences
    assert "leaves" not in bench.core._shared._writers
    (end,) = bench.ends("leaves")
    assert isinstance(end, Finished)
    assert end.reason == "aborted"
    said = len(bench.said)
    bench.run()
    assert not any(
        each.request_id == "leaves" for each in bench.said[said:] if isinstance(each, Delta | Finished)
    )
    assert all(bench.text(f"stays {number}") == " word" * 300 for number in range(stage.neighbours))
    bench.assert_clean()


@pytest.mark.parametrize("steps", [0, 1, 3, 12])
@pytest.mark.parametrize("schema", ["", SCHEMA], ids=["plain", "constrained"])
def test_a_reproducible_answer_makes_room_for_the_next(steps: int, schema: str) -> None:
    """Waiting, reading or writing: the lane is empty, and whoever waits behind begins within two steps."""
    bench = Bench()
    bench.ask("leaves", LONG + "\nsay 400 tokens", setup=SETUP, schema=schema)
    behind = bench.ask("behind", "echo: next", setup=SETUP)
    bench.run(steps)
    bench.core.abort("leaves")
    for _ in range(WITHIN):
        bench.core.step()

    assert behind.status is not Status.WAITING
    assert bench.core._alone.num_waiting == 0
    (end,) = bench.ends("leaves")
    assert isinstance(end, Finished)
    assert end.reason == "aborted"
    bench.run()
    assert bench.text("behind") == "next"
    lane = bench.core._alone._lane
    assert not getattr(lane, "cells", None)
    bench.assert_clean()


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_job_of_embeddings_makes_room(steps: int) -> None:
    """Its inputs are dropped at once, a half-read one too; the next batch is somebody else's."""
    bench = EmbeddingBench()
    bench.core.add(job("leaves", "a long input " * 60, *["more " * 9] * 60))
    for _ in range(steps):
        bench.core.step(is_shared=False)
    bench.core.abort("leaves")
    bench.core.add(job("stays", "short"))
    computed = sum(len(each.batches) for each in bench.made)
    said = bench.run()

    assert sum(len(each.batches) for each in bench.made) - computed <= WITHIN
    ends = [(each.request_id, type(each)) for each in said if isinstance(each, Embedded | Failed)]
    assert ends == [("leaves", Failed), ("stays", Embedded)]
