"""Whether a LoRA file fits its model: asked before an alias names it, and before the library reads it.

llama.cpp refuses most of what is refused here in the same words for all of it, ends the process for some
of it (a rank that differs between the two halves of an embedding's pair), and passes over some in silence
(norms, the words that switch an adapter on): then it would answer as something that nobody trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.errors import RequestError
from appliance.gguf import header
from appliance.gguf.header import Header, Tensor

MAX_RANK = 4096
_HALVES = (".lora_a", ".lora_b")
_TYPES = {0, 1, 8, 30}  # F32, F16, Q8_0, BF16: what converters write, and every backend multiplies with
_EMBEDDING = "token_embd.weight"

Shape = tuple[int, ...]


class AdapterError(Exception):
    """The file can not be laid over this model; the text says why."""


def shapes_of(paths: Iterable[Path]) -> tuple[str, dict[str, Shape]]:
    """A model's architecture, and the shapes of its tensors. AdapterError where it can not be read."""
    shapes: dict[str, Shape] = {}
    arch = ""
    for at, path in enumerate(paths):
        found = _read(path)
        arch = found.arch if at == 0 else arch
        shapes |= {each.name: each.shape for each in found.tensors}
    return arch, shapes


def check(path: Path, arch: str, shapes: Mapping[str, Shape]) -> None:
    """AdapterError unless every tensor of the file is a half of a pair that fits a tensor of the model."""
    check_on(_read(path), arch, shapes)


def check_on(found: Header, arch: str, shapes: Mapping[str, Shape]) -> None:
    """The same of a header that was read."""
    pairs = _pairs(found)
    if found.text("general.architecture") != arch:
        raise AdapterError(
            f"it is for the architecture {found.text('general.architecture')[:40]!r}, the model is {arch!r}"
        )
    for name, (first, second) in pairs.items():
        if name not in shapes:
            raise AdapterError(f"the model has no tensor {name}: it is for another model")
        _check_fit(name, first, second, shapes[name])
        _check_rank(name, first, second)


def check_alone(found: Header) -> None:
    """AdapterError where it can be laid over no model at all."""
    for name, (first, second) in _pairs(found).items():
        _check_rank(name, first, second)


def _pairs(found: Header) -> dict[str, tuple[Tensor, Tensor]]:
    """The halves for each tensor of a model, by its name."""
    if (found.text("general.type"), found.text("adapter.type")) != ("adapter", "lora"):
        raise AdapterError("it does not say that it is a LoRA adapter (general.type, adapter.type)")
    alpha = found.keys.get("adapter.lora.alpha")
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise AdapterError("its adapter.lora.alpha is missing, or no finite number")
    if "adapter.alora.invocation_tokens" in found.keys:
        raise AdapterError("it is switched on by words of the prompt (aLoRA), which is not done here")
    halves = {each.name: each for each in found.tensors}
    names = sorted({_base_of(each.name) for each in found.tensors})
    if not names:
        raise AdapterError("it holds no tensors")
    pairs = {}
    for name in names:
        first, second = (halves.get(name + half) for half in _HALVES)
        if first is None or second is None:
            raise AdapterError(f"of the pair for {name} one half is missing")
        if {first.type, second.type} - _TYPES:
            raise AdapterError(f"the pair for {name} is of a type that adapters are not computed in")
        pairs[name] = (first, second)
    return pairs


def _base_of(name: str) -> str:
    for half in _HALVES:
        if name.endswith(half):
            return name.removesuffix(half)
    raise AdapterError(f"its tensor {name} is no half of a pair, and would be passed over")


def _check_fit(name: str, first: Tensor, second: Tensor, shape: Shape) -> None:
    if len(shape) < 2 or not len(first.shape) == len(second.shape) == len(shape):
        fits = False
    elif name == _EMBEDDING:  # llama.cpp takes rows of the first half: it is the other way round
        fits = (first.shape[1], second.shape[1]) == (shape[1], shape[0])
    else:
        fits = (first.shape[0], second.shape[1]) == (shape[0], shape[1])
        fits = fits and first.shape[2:] == second.shape[2:] == shape[2:]
    if not fits:
        raise AdapterError(
            f"the pair for {name} is {_told(first.shape)} and {_told(second.shape)}, "
            f"the model's tensor {_told(shape)}: it is for another model"
        )


def _check_rank(name: str, first: Tensor, second: Tensor) -> None:
    at = 0 if name == _EMBEDDING else 1
    ranks = {*first.shape[at : at + 1], *second.shape[:1]}
    if len(first.shape) < 2 or len(ranks) != 1 or not 1 <= min(ranks) <= MAX_RANK:
        raise AdapterError(f"the two halves for {name} have no rank in common, or one above {MAX_RANK}")


def _read(path: Path) -> Header:
    try:
        return header.read(path)
    except RequestError as error:
        raise AdapterError(str(error)) from error


def _told(shape: Shape) -> str:
    return " x ".join(map(str, shape))
