"""What a model's files say of themselves, and whether that can be true. Pure; nothing native has run yet.

llama.cpp believes some of this without looking, and ends its process over the rest: a file that passes here
is tried in a process of its own (`trial`) before anybody sees it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.core import Purpose
from appliance.gguf.header import Header, Tensor
from appliance.gguf.reading import Array
from appliance.importing.refusals import FileRefused
from appliance.models.cards import Card

SPLIT_NAME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})-([0-9]{5})-of-([0-9]{5})\.gguf")
MAX_PARTS: Final = 1000
MAX_TEMPLATE_BYTES: Final = 1 << 20
_SPLIT_NO, _SPLIT_COUNT, _SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"
_TEMPLATE: Final = "tokenizer.chat_template"
_POOLING_RANK: Final = 4  # LLAMA_POOLING_TYPE_RANK
_ENCODERS: Final = re.compile(r"(.*-)?bert(-.*)?|t5encoder|gemma-embedding")
_EMBEDDING: Final = "token_embd.weight"
# A model without them, or with more than these, is none.
_SIZES: Final = {
    "block_count": 4096,
    "embedding_length": 1 << 20,
    "context_length": 1 << 28,
}
_SPECIAL: Final = tuple(
    f"tokenizer.ggml.{each}_token_id"
    for each in ("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask", "cls")
)


@dataclass(frozen=True, slots=True)
class Offered:
    """The files of one model, with the headers that were read from them."""

    files: tuple[Path, ...]
    headers: tuple[Header, ...]

    @property
    def header(self) -> Header:
        """The first file's: what the model says of itself stands there."""
        return self.headers[0]

    @property
    def tensors(self) -> Iterator[Tensor]:
        return (each for header in self.headers for each in header.tensors)


def parts_of(first: Path, header: Header) -> tuple[Path, ...]:
    """Every file of the model that this one begins. FileRefused where it is a later part, or misnamed."""
    count = header.integer(_SPLIT_COUNT)
    if count is None or count <= 1:
        return (first,)
    if count > MAX_PARTS:
        raise FileRefused("bad_split", f"{count} parts, where {MAX_PARTS} are the most")
    found = SPLIT_NAME.fullmatch(first.name)
    if found is None or int(found[3]) != count:
        raise FileRefused(
            "bad_split",
            "the file is a part of a model, and its name does not say of how many",
            hint=f"it is called NAME-00001-of-{count:05}.gguf where it comes from",
        )
    if int(found[2]) != 1 or header.integer(_SPLIT_NO) != 0:
        raise FileRefused(
            "bad_split",
            "the file is a later part of a model",
            hint=f"import the first one: {found[1]}-00001-of-{count:05}.gguf",
        )
    return tuple(first.with_name(f"{found[1]}-{at:05}-of-{count:05}.gguf") for at in range(1, count + 1))


def check(offered: Offered, wanted: Purpose | None) -> Purpose:
    """What the model is for. FileRefused where its files do not belong together, or can not be true."""
    for header in offered.headers:
        _check_numbers(header)
    _check_parts(offered)
    purpose = _purpose(offered.header)
    if wanted is not None and wanted is not purpose:
        if Purpose.ADAPTER in {wanted, purpose}:
            raise FileRefused("wrong_purpose", f"the file is for something else: {purpose}")
        purpose = wanted
    if purpose is not Purpose.ADAPTER:
        _check_sizes(offered.header)
        _check_vocabulary(offered)
    if purpose is Purpose.CHAT and not offered.header.text(_TEMPLATE):
        raise FileRefused(
            "no_template",
            "a chat model brings its template, and this file has none",
            hint="take a file that has one; for vectors: --purpose embedding",
        )
    for name, text in templates(offered.header):
        if len(text.encode()) > MAX_TEMPLATE_BYTES:
            raise FileRefused("bad_template", f"the template {name} is too large")
    return purpose


def templates(header: Header) -> list[tuple[str, str]]:
    """The chat templates of a file: the one that is used, and those with names."""
    return [
        (key, value)
        for key, value in header.keys.items()
        if (key == _TEMPLATE or key.startswith(f"{_TEMPLATE}.")) and isinstance(value, str)
    ]


def card_of(offered: Offered) -> Card:
    """What people and the catalogue want of the header; texts cut to what a row takes."""
    header = offered.header
    template = header.text(_TEMPLATE)
    return Card(
        architecture=header.arch,
        name=_printable(header.text("general.name")),
        quantization=header.quant,
        num_parameters=sum(each.num_elements for each in offered.tensors),
        n_ctx_train=header.own("context_length") or 0,
        n_embd=header.own("embedding_length") or 0,
        num_tokens=header.length("tokenizer.ggml.tokens") or 0,
        template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else "",
    )


def _purpose(header: Header) -> Purpose:
    if header.text("general.type") == "adapter":
        if header.text("adapter.type") != "lora":
            raise FileRefused("bad_adapter", "an adapter that is no LoRA file")
        return Purpose.ADAPTER
    pooling = header.own("pooling_type")
    if pooling == _POOLING_RANK:
        return Purpose.RERANK
    if pooling or _ENCODERS.fullmatch(header.arch):
        return Purpose.EMBEDDING
    return Purpose.CHAT


def _check_numbers(header: Header) -> None:
    """No number of a header is infinite or none: it would stand in every later computation."""
    for key, value in header.keys.items():
        numbers: Sequence[object] = value.items if isinstance(value, Array) else (value,)
        if any(isinstance(each, float) and not math.isfinite(each) for each in numbers):
            raise FileRefused("bad_header", f"{key} is not a finite number")


def _check_parts(offered: Offered) -> None:
    count = len(offered.headers)
    if count == 1:
        return
    expected = offered.header.integer(_SPLIT_TENSORS)
    if expected != sum(len(each.tensors) for each in offered.headers):
        raise FileRefused("bad_split", "the parts do not hold all tensors together")
    for at, header in enumerate(offered.headers):
        told = (header.integer(_SPLIT_NO), header.integer(_SPLIT_COUNT), header.integer(_SPLIT_TENSORS))
        if told != (at, count, expected):
            raise FileRefused("bad_split", f"part {at + 1} belongs to another model, or to another place")
    names = [each.name for each in offered.tensors]
    if len(set(names)) != len(names):
        raise FileRefused("bad_split", "two parts hold the same tensor")


def _check_sizes(header: Header) -> None:
    for key, most in _SIZES.items():
        found = header.own(key)
        if found is None or not 1 <= found <= most:
            raise FileRefused("bad_header", f"{header.arch}.{key} is missing, or no size of a model")


def _check_vocabulary(offered: Offered) -> None:
    header = offered.header
    count = header.length("tokenizer.ggml.tokens")
    if not count or not header.text("tokenizer.ggml.model"):
        raise FileRefused("bad_tokenizer", "the file has no tokens")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        if header.length(key) not in {None, count}:
            raise FileRefused("bad_tokenizer", f"{key} is not about every token")
    for key in _SPECIAL:
        found = header.integer(key)
        if found is not None and not 0 <= found < count and found != 0xFFFFFFFF:
            raise FileRefused("bad_tokenizer", f"{key} is a token that there is not")
    rows = next((each.shape for each in offered.tensors if each.name == _EMBEDDING), None)
    if rows is None or len(rows) != 2 or rows[1] != count:
        raise FileRefused("bad_tokenizer", "the tokens are not as many as the rows of the embedding")


def _printable(text: str) -> str:
    return "".join(each for each in text if each.isprintable())[:100]
