"""One loaded starter model for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine.messages import LoadModel, Tuning
from appliance.engine.worker.llama import LlamaBackend


@pytest.fixture(scope="module")
def backend(starter_model_path: Path) -> Iterator[LlamaBackend]:
    load = LoadModel(
        "starter",
        str(starter_model_path),
        2048,
        8,
        256,
        0,
        0,
        0,
        32,
        150_000,
        512,
        tuning=Tuning(flash_attn=True, n_threads=1, n_threads_batch=2),
    )
    made = LlamaBackend(load)
    yield made
    made.close()
