"""What tests of a module share: a gateway, a strict client of it, a loaded starter model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from appliance.engine.messages import LoadModel, Tuning
from appliance.engine.worker.llama import LlamaBackend
from tests.harness import Gateway, gateway


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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A whole gateway over the fake worker. Modules that need another one have their own."""
    with gateway(tmp_path_factory.mktemp("running") / "home") as started:
        yield started


@pytest.fixture
def client(running: Gateway) -> Iterator[openai.OpenAI]:
    """The official client, which checks every answer against its own types and asks once only."""
    with openai.OpenAI(
        base_url=f"{running.url}/v1", api_key=running.key(), max_retries=0, _strict_response_validation=True
    ) as made:
        yield made
