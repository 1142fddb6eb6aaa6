"""What is read off a header: widths, cells, states, and what is not known is said."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest

from appliance.fitting import Shape, shape_of
from appliance.gguf import header
from appliance.gguf.header import Header, parse
from tests.ggufs import Value, Weights, make
from tests.shapes import SHAPES
from tests.starter import starter_model


def shape(name: str) -> Shape:
    keys, tensors = SHAPES[name]()
    return shape_of([made(keys, tensors)])


def made(keys: Mapping[str, Value], tensors: list[Weights] | tuple[Weights, ...] | object) -> Header:
    data = bytes(make(keys, tensors).data)  # type: ignore[arg-type]
    return parse(io.BytesIO(data), len(data))


def test_starter_model_is_known_in_full() -> None:
    """Nine heads over three, two bytes for each of 23,040 numbers of a cell, one matrix at both ends."""
    found = shape_of([header.read(starter_model())])

    assert (found.arch, len(found.layers), found.n_embd, found.n_vocab) == ("llama", 30, 576, 49_152)
    assert {(each.heads, each.query, each.keys, each.values) for each in found.layers} == {(9, 576, 192, 192)}
    assert {each.forward for each in found.layers} == {3 * 1536}
    assert found.is_tied
    assert found.can_share_prefixes
    assert found.unknown == ()


def test_heads_wider_than_the_model_says() -> None:
    """Keys take the size that the file names, not the model's width divided by its heads."""
    found = shape("experts")

    assert found.layers[0].query == 16 * 64
    assert found.layers[0].cell == 2 * 4 * 64
    assert found.n_expert == 16


def test_encoder_has_no_cells_and_no_head() -> None:
    """Bert keeps nothing, and computes no words."""
    found = shape("encoder")

    assert not found.has_cells
    assert not found.has_head
    assert not found.is_causal


def test_recurrent_layers_have_a_state_and_no_cells() -> None:
    """Mamba's state: three taps of the inner width, and sixteen numbers for each of it."""
    found = shape("recurrent")

    assert {(each.cell, each.state) for each in found.layers} == {(0, 3 * 1024 + 16 * 1024)}
    assert found.is_recurrent
    assert not found.can_share_prefixes
    assert found.unknown == ("the buffers of its recurrent layers",)


def test_heads_that_differ_from_layer_to_layer() -> None:
    """A list of heads is read layer by layer; a layer without key heads has no cells."""
    keys, tensors = SHAPES["grouped_queries"]()
    found = shape_of([made({**keys, "llama.attention.head_count_kv": [4, 2, 0, 4, 4, 4]}, tensors)])

    assert [each.keys for each in found.layers] == [256, 128, 0, 256, 256, 256]


def test_layers_that_use_the_cells_of_others() -> None:
    """The last layers of some families keep nothing of their own."""
    keys, tensors = SHAPES["windowed"]()
    found = shape_of([made({**keys, "gemma3.attention.shared_kv_layers": 2}, tensors)])

    assert [each.cell > 0 for each in found.layers] == [True] * 4 + [False] * 2


def test_split_model_is_the_sum_of_its_files() -> None:
    """Keys stand in the first file, tensors in all of them."""
    keys, tensors = SHAPES["biased"]()
    halves = [made(keys, tensors[:40]), made({"general.architecture": "qwen2"}, tensors[40:])]

    assert shape_of(halves) == shape_of([made(keys, tensors)])


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (Weights("blk.0.indexer.proj.weight", (32, 8)), "the index of its sparse attention"),
        (Weights("blk.0.time_mix_key.weight", (32, 8)), "the state of its recurrent layers"),
        (Weights("blk.0.cross_attn_q.weight", (32, 8)), "the cells of its encoder"),
    ],
)
def test_what_is_not_known_is_said(extra: Weights, said: str) -> None:
    """A kind of memory without a formula here makes the estimate a lower bound."""
    keys, tensors = SHAPES["grouped_queries"]()

    assert said in shape_of([made(keys, [*tensors, extra])]).unknown


@pytest.mark.parametrize("name", ["embedding_length", "block_count"])
def test_header_that_says_little_is_no_crash(name: str) -> None:
    """What is missing makes the estimate smaller, and is told."""
    keys, tensors = SHAPES["grouped_queries"]()
    less = {key: value for key, value in keys.items() if not key.endswith(name)}

    found = shape_of([made(less, tensors)])
    assert found.weights == shape("grouped_queries").weights
    assert bool(found.unknown) == (name == "embedding_length")


def test_file_without_layers() -> None:
    """Nothing is reckoned of it, and that is said."""
    assert shape_of([made({"general.architecture": "llama"}, [Weights("a", (32,))])]).unknown
