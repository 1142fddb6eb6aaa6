"""Which LoRA files fit which model: by names, shapes and ranks, before anything native reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gguf import header, lora
from appliance.gguf.lora import AdapterError
from tests import ggufs
from tests.ggufs import Value, Weights

SAID: Mapping[str, Value] = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 8.0,
}
SHAPES = {"token_embd.weight": (32, 64), "blk.0.attn_v.weight": (32, 16), "blk.0.experts.weight": (32, 16, 4)}
Pair = tuple[tuple[int, ...], tuple[int, ...]]
FITTING: Mapping[str, Pair] = {
    "token_embd.weight": ((4, 64), (4, 32)),
    "blk.0.attn_v.weight": ((32, 4), (4, 16)),
    "blk.0.experts.weight": ((32, 4, 4), (4, 16, 4)),
}


def made(
    path: Path, pairs: Mapping[str, Pair] = FITTING, keys: Mapping[str, Value] = SAID, *, type_: int = 0
) -> Path:
    tensors = [
        Weights(f"{name}.lora_{half}", shape, type_)
        for name, pair in pairs.items()
        for half, shape in zip("ab", pair, strict=True)
    ]
    path.write_bytes(ggufs.make(keys, tensors).data)
    return path


def test_what_fits_is_taken(tmp_path: Path) -> None:
    """Two dimensions, three for experts, and the other way round for the embedding; parts are read."""
    lora.check(made(tmp_path / "a.gguf"), "llama", SHAPES)
    parts = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    for at, path in enumerate(parts):
        path.write_bytes(ggufs.make(ggufs.SMALL if at == 0 else {}, [Weights(f"t{at}", (8, at + 1))]).data)

    assert lora.shapes_of(parts) == ("llama", {"t0": (8, 1), "t1": (8, 2)})


@pytest.mark.parametrize(
    ("name", "pair", "says"),
    [
        ("blk.0.attn_v.weight", ((16, 4), (4, 32)), "another model"),
        ("blk.0.attn_v.weight", ((32, 4), (5, 16)), "no rank in common"),
        ("blk.0.attn_v.weight", ((32, 4, 1), (4, 16)), "another model"),
        ("blk.0.attn_v.weight", ((32,), (4, 16)), "another model"),
        ("blk.0.experts.weight", ((32, 4, 4), (4, 16, 3)), "another model"),
        ("blk.0.experts.weight", ((32, 4), (4, 16)), "another model"),
        ("token_embd.weight", ((32, 4), (4, 64)), "another model"),
        ("token_embd.weight", ((4, 64), (5, 32)), "no rank in common"),
        ("blk.7.attn_v.weight", ((32, 4), (4, 16)), "no tensor blk.7.attn_v.weight"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str, pair: Pair, says: str) -> None:
    """One wrong pair among right ones is enough, and its tensor is named."""
    path = made(tmp_path / "a.gguf", {**FITTING, name: pair})
    with pytest.raises(AdapterError, match=says) as refused:
        lora.check(path, "llama", SHAPES)

    assert name in str(refused.value)


def test_halves_norms_and_other_types_are_refused(tmp_path: Path) -> None:
    """What llama.cpp would pass over, and what it would not compute."""
    lone = tmp_path / "lone.gguf"
    lone.write_bytes(ggufs.make(SAID, [Weights("blk.0.attn_v.weight.lora_a", (32, 4))]).data)
    norm = tmp_path / "norm.gguf"
    norm.write_bytes(ggufs.make(SAID, [Weights("blk.0.attn_norm.weight", (32,))]).data)
    for path, says in (
        (lone, "one half is missing"),
        (norm, "would be passed over"),
        (made(tmp_path / "none.gguf", {}), "no tensors"),
        (made(tmp_path / "int.gguf", type_=26), "not computed in"),
        (made(tmp_path / "arch.gguf", keys={**SAID, "general.architecture": "gemma"}), "'gemma'"),
        (tmp_path / "missing.gguf", "can not be read"),
    ):
        with pytest.raises(AdapterError, match=says):
            lora.check(path, "llama", SHAPES)


@given(at=st.integers(0, 700), change=st.binary(min_size=1, max_size=12), cut=st.integers(0, 1500))
def test_no_bytes_do_anything_else(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: bytes, cut: int
) -> None:
    """A file with any bytes of its header changed, or cut anywhere, is taken or refused."""
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(made(folder / "whole.gguf").read_bytes())
    data[at : at + len(change)] = change
    for changed in (data, data[:cut]):
        (folder / "changed.gguf").write_bytes(changed)
        try:
            lora.check(folder / "changed.gguf", "llama", SHAPES)
        except AdapterError as error:
            assert str(error)  # noqa: PT017 - either end is right


@pytest.mark.parametrize(
    ("weights", "alpha"),
    [
        ([], 1.0),
        ([Weights("a.lora_a", (32, 4))], 1.0),
        ([Weights("a.lora_a", (32, 4)), Weights("a.lora_b", (5, 32))], 1.0),
        ([Weights("a.lora_a", (32, 4)), Weights("a.lora_b", (4, 32)), Weights("a.weight", (4, 4))], 1.0),
        ([Weights("a.lora_a", (32, 9999)), Weights("a.lora_b", (9999, 32))], 1.0),
        ([Weights("a.lora_a", (32, 4)), Weights("a.lora_b", (4, 32))], None),
    ],
)
def test_half_an_adapter_is_refused(tmp_path: Path, weights: list[Weights], alpha: float | None) -> None:
    """Pairs of one rank and a scale, and nothing else."""
    keys: dict[str, Value] = {"general.type": "adapter", "adapter.type": "lora"}
    (tmp_path / "a.gguf").write_bytes(
        ggufs.make({**keys, **({"adapter.lora.alpha": alpha} if alpha else {})}, weights).data
    )
    with pytest.raises(AdapterError):
        lora.check_alone(header.read(tmp_path / "a.gguf"))
