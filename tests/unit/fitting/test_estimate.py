"""What a load takes, by part: settings that ask for more need more, and what comes later is told apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.engine.worker.llama import tune
from appliance.fitting import Kind, Wanted, estimate, shape_of, wanted
from appliance.gguf import header
from tests.starter import starter_model

SHAPE = shape_of([header.read(starter_model())])
MIB = 1024 * 1024
WANTED = Wanted(4096, 16, 512, prefix_cache_cells=2048, spill_bytes=512 * MIB, tuned=(False, False))


def test_parts_of_the_starter_model() -> None:
    """Weights and cells to the byte; cells are 23,040 bytes each, in whole blocks of 256."""
    found = estimate(SHAPE, replace(WANTED, n_ctx=4000))

    assert found.of(Kind.WEIGHTS) == SHAPE.weights == 96_576_768
    assert found.of(Kind.CELLS) == 4096 * 23_040
    assert found.of(Kind.OUTPUTS) == 17 * 49_152 * 4
    assert found.loaded_bytes + found.later_bytes == found.total_bytes
    assert found.of(Kind.SPILL) == 512 * MIB


@pytest.mark.parametrize("name", ["n_ctx", "n_seq_max", "n_batch"])
def test_more_never_needs_less(name: str) -> None:
    """Advice searches by halves, which holds only while this does."""
    for tuned in (None, (False, False), (True, False), (False, True)):
        options: list[dict[str, Any]] = [{name: value} for value in (1, 64, 100, 256, 512, 777, 1024, 2048)]
        sizes = [estimate(SHAPE, replace(WANTED, tuned=tuned, **each)).loaded_bytes for each in options]
        assert sizes == sorted(sizes)


def test_quantized_cells_take_less() -> None:
    """Eight bits and their scale in place of sixteen."""
    found = estimate(SHAPE, replace(WANTED, cell_type=8))

    assert found.of(Kind.CELLS) == 4096 * 23_040 // 2 // 32 * 34


def test_two_pools_have_two_buffers() -> None:
    """The cells are divided, the buffers are not."""
    wide = replace(WANTED, n_ctx=16_384)
    one, two = estimate(SHAPE, wide), estimate(SHAPE, replace(wide, tuned=(False, True)))

    assert one.of(Kind.CELLS) == two.of(Kind.CELLS)
    assert two.of(Kind.OUTPUTS) == 2 * one.of(Kind.OUTPUTS)


def test_before_it_is_measured_the_most_is_assumed() -> None:
    """Whatever the worker finds quickest fits; and so do the contexts that it measures in."""
    unknown = estimate(SHAPE, replace(WANTED, n_ctx=512, tuned=None))
    known = [
        estimate(SHAPE, replace(WANTED, n_ctx=512, tuned=each)) for each in ((False, False), (True, False))
    ]

    assert unknown.loaded_bytes > max(each.loaded_bytes for each in known)
    assert unknown.of(Kind.MEASURING) > 0


def test_vectors_alone_need_one_context() -> None:
    """A model that does not chat has no pools, and nothing is made for it later."""
    found = estimate(SHAPE, replace(WANTED, chats=False, embedding_n_ctx=512, embedding_n_batch=256))

    assert found.of(Kind.CELLS) == (512 + 256) * 23_040
    assert found.of(Kind.SPILL) == found.of(Kind.LANE) == 0


def test_measuring_is_as_large_as_the_tuner_makes_it() -> None:
    """The figures here are the tuner's own."""
    ours = (wanted.TRIAL_CELLS, wanted.TRIAL_BESIDE, wanted.TRIAL_BATCH, wanted.TRIAL_SEQUENCES)

    assert ours == (tune._LEAST_CELLS, tune._STRANGERS_CELLS, tune._READ, tune.STREAMS + 2)
