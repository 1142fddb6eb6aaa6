"""The estimate beside what loading takes: real models of six shapes, to five parts in a hundred."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine import fits
from appliance.engine.messages import LoadModel, Tuning
from appliance.engine.worker.llama import LlamaBackend
from appliance.engine.worker.llama.embedding import EmbeddingContext, EmbeddingLimits
from appliance.engine.worker.llama.heard import take
from appliance.engine.worker.llama.model import LoadedModel
from appliance.fitting import Kind, shape_of
from appliance.fitting.buffers import Context, sizes_of
from appliance.gguf import header
from tests.shapes import place

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

OF_THE_LIBRARY = (Kind.WEIGHTS, Kind.CELLS, Kind.COMPUTE, Kind.OUTPUTS)
FLASH, PLAIN, BOTH = (True, False), (False, False), (False, True)


def load_of(path: Path, n_ctx: int, n_seq_max: int, n_batch: int, tuned: tuple[bool, bool]) -> LoadModel:
    tuning = Tuning(tuned[0], 1, 1, tuned[1])
    return LoadModel("m", str(path), n_ctx, n_seq_max, n_batch, 1, 1, 0, 32, 150_000, 512, tuning=tuning)


def compared(load: LoadModel) -> tuple[float, float]:
    """MiB by the estimate, and as the library said."""
    found = fits.reckoned(load)
    assert found is not None
    backend = LlamaBackend(load)
    try:
        taken = sum(each.bytes for each in backend.model.buffers)
        weights = sum(each.bytes for each in backend.model.buffers if each.kind == "model")
    finally:
        backend.close()
    # Weights that are laid out anew stay mapped once more: the kernel gives those pages back.
    twice = max(0, weights - found.of(Kind.WEIGHTS))
    return sum(map(found.of, OF_THE_LIBRARY)) / 2**20, (taken - twice) / 2**20


@pytest.mark.parametrize(
    ("n_ctx", "n_seq_max", "n_batch", "tuned"),
    [
        (1000, 2, 64, PLAIN),
        (4096, 16, 512, PLAIN),
        (4096, 16, 512, FLASH),
        (16_384, 16, 512, BOTH),
        (2048, 64, 2048, FLASH),
    ],
)
def test_starter_model(
    starter_model_path: Path, n_ctx: int, n_seq_max: int, n_batch: int, tuned: tuple[bool, bool]
) -> None:
    """Small and large pools, few and many sequences, both kernels, one pool and two."""
    reckoned, measured = compared(load_of(starter_model_path, n_ctx, n_seq_max, n_batch, tuned))

    assert reckoned == pytest.approx(measured, rel=0.05)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shapes")
    yield folder
    for each in folder.iterdir():
        each.unlink()


@pytest.mark.parametrize("tuned", [PLAIN, FLASH])
@pytest.mark.parametrize("name", ["grouped_queries", "biased", "experts", "windowed", "recurrent"])
def test_other_shapes(shapes: Path, name: str, tuned: tuple[bool, bool]) -> None:
    """Grouped queries in K-quants, biases and 8 bits, experts, windows, a recurrent state."""
    reckoned, measured = compared(load_of(place(name, shapes), 2048, 4, 256, tuned))

    assert reckoned == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("flash_attn", [False, True])
def test_encoder(shapes: Path, *, flash_attn: bool) -> None:
    """A model that only embeds sees its longest input at once, and keeps no cells."""
    path = place("encoder", shapes)
    model = LoadedModel(str(path), n_gpu_layers=0)
    limits = EmbeddingLimits(512, 256, 1, 1, flash_attn=flash_attn, has_cache=False)
    context = EmbeddingContext(model, "mean", limits)
    measured = sum(each.bytes for each in (*model.buffers, *take()))
    context.close()
    model.close()
    shape = shape_of([header.read(path)])
    sizes = sizes_of(shape, Context(512, 64, 512, 512, flash_attn, with_vectors=True))

    assert shape.weights + sizes.compute + sizes.outputs == pytest.approx(measured, rel=0.05)
