"""LoRA files: pairs of small tensors, each for one tensor of the model that they were trained on. Pure.

As llama.cpp lays them: for a weight of shape (in, out) there are `NAME.lora_a` (in, rank) and `NAME.lora_b`
(rank, out); for the embedding of tokens both the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from appliance.gguf.header import Header, Tensor
from appliance.importing.refusals import FileRefused

A, B = ".lora_a", ".lora_b"
MAX_RANK: Final = 4096
_EMBEDDING: Final = "token_embd.weight"


def check(header: Header) -> None:
    """FileRefused where a file is no whole adapter in itself."""
    pairs = _pairs(header)
    if not pairs:
        raise FileRefused("bad_adapter", "an adapter without tensors")
    alpha = header.keys.get("adapter.lora.alpha")
    if not isinstance(alpha, float):
        raise FileRefused("bad_adapter", "adapter.lora.alpha is missing, or no number")
    for name, (a, b) in pairs.items():
        rank = a.shape[0] if name == _EMBEDDING else a.shape[1]
        other = b.shape[0]
        if rank != other or rank > MAX_RANK:
            raise FileRefused("bad_adapter", f"the two tensors for {name} are not of one rank")


def problem(header: Header, base: Header, tensors: Sequence[Tensor]) -> str:
    """Why this adapter can not be laid over a model with these tensors; empty where it can."""
    if header.arch != base.arch:
        return f"it is for a model of architecture {header.arch}"
    shapes = {each.name: each.shape for each in tensors}
    for name, (a, b) in _pairs(header).items():
        wanted = shapes.get(name)
        if wanted is None or len(wanted) != 2:
            return f"that model has no tensor {name}"
        given = (b.shape[1], a.shape[1]) if name == _EMBEDDING else (a.shape[0], b.shape[1])
        if given != wanted:
            return f"the tensor {name} has another shape there"
    return ""


def _pairs(header: Header) -> Mapping[str, tuple[Tensor, Tensor]]:
    by_name = {each.name: each for each in header.tensors}
    found = {}
    for each in header.tensors:
        base = each.name.removesuffix(A).removesuffix(B)
        a, b = by_name.get(base + A), by_name.get(base + B)
        if base == each.name or a is None or b is None or len(a.shape) != 2 or len(b.shape) != 2:
            raise FileRefused("bad_adapter", f"{each.name} is not one of two that belong together")
        found[base] = (a, b)
    return found
