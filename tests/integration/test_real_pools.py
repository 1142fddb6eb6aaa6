"""Two pools over the starter model: one set of weights, two kernels, each request in one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine.messages import Finished, LoadModel, Tuning
from appliance.engine.worker.llama import LlamaBackend
from tests.integration.real import QUESTIONS, Bench

SYSTEM = "You are the clerk of the office at the lake. You answer in one short sentence. " * 5
N_CTX, N_CTX_TRAIN = 12_288, 8192  # a half more than the starter model takes at most: a third is apart


@pytest.fixture(scope="module")
def parted(starter_model_path: Path) -> Iterator[LlamaBackend]:
    tuning = Tuning(flash_attn=False, n_threads=1, n_threads_batch=2, apart=True)
    load = LoadModel(
        "starter", str(starter_model_path), N_CTX, 8, 256, 0, 0, 0, 32, 150_000, 512, tuning=tuning
    )
    made = LlamaBackend(load)
    yield made
    made.close()


@pytest.mark.model
def test_cells_are_divided(parted: LlamaBackend) -> None:
    """Both pools together have the cells that were asked for, and the longest request still fits."""
    assert parted.apart is not None
    assert (parted.n_ctx, parted.apart.n_ctx) == (N_CTX_TRAIN, N_CTX - N_CTX_TRAIN)
    assert (parted.model.n_ctx, parted.model.max_tokens) == (N_CTX, N_CTX_TRAIN)


@pytest.mark.model
def test_both_pools_answer_at_once(parted: LlamaBackend) -> None:
    """A room and strangers, in turn: everybody is answered, and the room computes its prompt once."""
    bench = Bench(parted, prefix_cache_cells=512, spilled_cells=4096)
    for at, question in enumerate(QUESTIONS):
        bench.ask(f"room {at}", question, system=SYSTEM)
        bench.ask(f"alone {at}", question)
    answers = bench.answers()
    ends = {each.request_id: each for each in bench.said if isinstance(each, Finished)}

    assert len(answers) == len(ends) == 2 * len(QUESTIONS)
    assert all(answers.values())
    assert sum(ends[f"room {at}"].cached_tokens > 64 for at in range(len(QUESTIONS))) == len(QUESTIONS) - 1
    assert all(ends[f"alone {at}"].cached_tokens < 64 for at in range(len(QUESTIONS)))


@pytest.mark.model
def test_without_sharing_nothing_is_divided(starter_model_path: Path) -> None:
    """Where prefixes are not kept all requests are alike, and one pool has all cells."""
    tuning = Tuning(flash_attn=False, n_threads=1, n_threads_batch=1, apart=True)
    load = LoadModel("starter", str(starter_model_path), N_CTX, 4, 64, 0, 0, 0, 32, 150_000, 0, tuning=tuning)
    made = LlamaBackend(load)
    try:
        assert made.apart is None
        assert made.n_ctx == N_CTX
    finally:
        made.close()
