"""What of a model decides how much memory it takes, read off its header. Pure.

Widths are taken from the tensors where they tell them, and from the keys where llama.cpp takes them from
there (sizes of heads, which decide the cells). What this file does not know of a model is named in
`Shape.unknown`: such an estimate is a lower bound, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.gguf.header import Header, Tensor
from appliance.gguf.reading import Array

_IN_LAYER: Final = re.compile(r"blk\.(\d{1,4})\.(.+)")
_OUTPUT: Final = ("output", "cls", "dense_")
# Families of which llama.cpp keeps no cells: they see an input as a whole (its create_memory).
ENCODERS: Final = frozenset(
    {
        "bert", "dream", "eurobert", "gemma-embedding", "jina-bert-v2", "jina-bert-v3", "llada", "llada-moe",
        "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1", "wavtokenizer-dec",
    }
)  # fmt: skip
_WITH_HEAD: Final = frozenset({"dream", "llada", "llada-moe", "rnd1"})  # of these: they write text
_BOTH: Final = frozenset({"falcon-h1"})  # every layer has cells and a state
_RECURRENT: Final = ("ssm_", "time_mix_", "shortconv.")
_ATTENTION: Final = ("attn_k.", "attn_qkv.", "attn_kv_a_mqa.", "attn_k_b.")
_SCANNED: Final = 4.5  # rows of the inner width that a state-space layer holds at once
_SHARED_FROM: Final = {"gemma3n": 20}  # layers from here on use the cells of earlier ones


@dataclass(frozen=True, slots=True)
class Layer:
    """One repeating layer. Widths in numbers per token."""

    weights: int  # bytes
    largest: int = 0  # bytes of its largest tensor
    heads: int = 0
    query: int = 0
    keys: int = 0  # of a cell; 0 where the layer keeps none
    values: int = 0
    forward: int = 0  # what the feed-forward part holds at once
    state: int = 0  # of a sequence, where the layer is recurrent: 32-bit floats

    @property
    def cell(self) -> int:
        """Numbers of one cell."""
        return self.keys + self.values


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes. Bytes where a name says so or ends in `weights`."""

    arch: str
    n_vocab: int
    n_embd: int
    n_ctx_train: int
    layers: tuple[Layer, ...] = field(repr=False)
    input_weights: int  # stay with the host
    output_weights: int  # the head, and what stands behind the last layer
    largest: int  # bytes of the largest tensor outside the layers
    num_texts: int  # entries of vocabulary and merges, which the library keeps in tables
    has_cells: bool = True
    has_head: bool = True  # computes a logit for each word
    is_causal: bool = True
    is_recurrent: bool = False
    window: int = 0  # tokens of a sliding window; llama.cpp keeps all cells nonetheless
    n_expert: int = 0
    is_tied: bool = False  # input and output share one matrix: a device needs its own copy
    unknown: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """Bytes of all tensors."""
        return self.input_weights + self.output_weights + sum(each.weights for each in self.layers)

    @property
    def can_share_prefixes(self) -> bool:
        """As the worker decides it: cells by position only."""
        return self.has_cells and not self.is_recurrent and not self.window


def shape_of(headers: Sequence[Header]) -> Shape:
    """Of a model in one file, or in the files of a split one, the first one first."""
    head = headers[0]
    grouped: dict[int, dict[str, Tensor]] = {}
    apart: dict[str, Tensor] = {}
    for each in (tensor for header in headers for tensor in header.tensors):
        if found := _IN_LAYER.fullmatch(each.name):
            grouped.setdefault(int(found[1]), {})[found[2]] = each
        else:
            apart[each.name] = each
    num_layers = head.own("block_count") or (max(grouped, default=-1) + 1)
    num_layers = min(num_layers, max(grouped, default=-1) + 1)
    reader = _Layers(head, num_layers)
    layers = tuple(reader.layer(at, grouped.get(at, {})) for at in range(num_layers))
    behind = {name: each for name, each in apart.items() if name.startswith(_OUTPUT)}
    is_recurrent = any(each.state for each in layers) or reader.has_unknown_state
    return Shape(
        arch=head.arch,
        n_vocab=head.length("tokenizer.ggml.tokens") or head.own("vocab_size") or 0,
        n_embd=reader.n_embd,
        n_ctx_train=head.own("context_length") or 0,
        layers=layers,
        input_weights=sum(each.num_bytes for name, each in apart.items() if name not in behind),
        output_weights=sum(each.num_bytes for each in behind.values()),
        largest=max((each.num_bytes for each in apart.values()), default=0),
        num_texts=(head.length("tokenizer.ggml.tokens") or 0) + (head.length("tokenizer.ggml.merges") or 0),
        has_cells=head.arch not in ENCODERS,
        has_head=head.arch not in ENCODERS or head.arch in _WITH_HEAD,
        is_causal=head.keys.get(f"{head.arch}.attention.causal", True) is not False,
        is_recurrent=is_recurrent,
        window=head.own("attention.sliding_window") or 0,
        n_expert=head.own("expert_count") or 0,
        is_tied="output.weight" not in apart and bool(layers),
        unknown=_unknown(head, grouped, reader),
    )


class _Layers:
    """Reads layers one by one, with what all of them have in common."""

    def __init__(self, header: Header, num_layers: int) -> None:
        self._header = header
        self.has_unknown_state = False
        self.n_embd = header.own("embedding_length") or 0
        self._used = _per_layer(header, "expert_used_count", num_layers, 0)
        self._heads = _per_layer(header, "attention.head_count", num_layers, 0)
        self._heads_kv = _per_layer(header, "attention.head_count_kv", num_layers, None) or self._heads
        width = self.n_embd // max(1, self._heads[0] if self._heads else 1)
        self._key = header.own("attention.key_length") or width
        self._value = header.own("attention.value_length") or width
        self._key_swa = header.own("attention.key_length_swa") or self._key
        self._value_swa = header.own("attention.value_length_swa") or self._value
        self._is_latent = header.own("attention.key_length_mla") is not None
        self._windowed = _flags(header, "attention.sliding_window_pattern", num_layers)
        self._state = _state(header, self.n_embd)
        self._scan = int(_SCANNED * (header.own("ssm.inner_size") or 0))
        shared = header.own("attention.shared_kv_layers")
        self._with_cells = num_layers - (header.own("nextn_predict_layers") or 0)
        if shared is not None:
            self._with_cells = min(self._with_cells, num_layers - shared)
        self._with_cells = min(self._with_cells, _SHARED_FROM.get(header.arch, num_layers))

    def layer(self, at: int, tensors: Mapping[str, Tensor]) -> Layer:
        """The layer with these tensors, their names without `blk.N.`."""
        is_recurrent = any(name.startswith(_RECURRENT) for name in tensors)
        attends = any(name.startswith(_ATTENTION) for name in tensors)
        if is_recurrent and self._header.arch not in _BOTH:
            attends = False
        if is_recurrent and not self._state:
            self.has_unknown_state = True
        swa = at < len(self._windowed) and self._windowed[at]
        key, value = (self._key_swa, self._value_swa) if swa else (self._key, self._value)
        heads, heads_kv = self._heads[at], self._heads_kv[at]
        keeps = attends and at < self._with_cells
        sizes = [each.num_bytes for each in tensors.values()]
        return Layer(
            weights=sum(sizes),
            largest=max(sizes, default=0),
            heads=heads if attends else 0,
            query=heads * key if attends else 0,
            keys=heads_kv * key if keeps else 0,
            values=heads_kv * value if keeps and not self._is_latent else 0,
            forward=max(
                _forward(tensors, self.n_embd, self._used[at], heads_kv * key),
                self._scan if is_recurrent else 0,
            ),
            state=self._state if is_recurrent else 0,
        )


def _forward(tensors: Mapping[str, Tensor], n_embd: int, num_used: int, keys: int) -> int:
    """Up, gate and what they become stand beside each other; without a gate it is computed in its place."""

    def rows(name: str) -> int:
        found = tensors.get(f"{name}.weight")
        return found.shape[1] if found is not None and len(found.shape) > 1 else 0

    up, down = rows("ffn_up"), tensors.get("ffn_down.weight")
    dense = 3 * up if "ffn_gate.weight" in tensors else up
    if not rows("ffn_gate") and down is not None and up == 2 * down.shape[0]:
        dense = up + down.shape[0]  # both halves in one matrix
    expert = max(rows("ffn_up_exps"), rows("ffn_gate_up_exps") // 2)
    # Behind the experts' last matrix each of them has a row, beside what went into it.
    routed = num_used * max(3 * expert, expert + n_embd) + keys if expert else 0
    shared = 3 * rows("ffn_up_shexp")
    return max(dense, routed, shared + n_embd if shared else 0)


def _state(header: Header, n_embd: int) -> int:
    """Numbers of a recurrent layer's state for one sequence; 0 where no key says it."""
    if size := header.own("wkv.head_size"):
        return n_embd * (size + (header.own("token_shift_count") or 2))
    if length := header.own("shortconv.l_cache"):
        return n_embd * (length - 1)
    inner, state = header.own("ssm.inner_size") or 0, header.own("ssm.state_size") or 0
    if not inner or header.own("kda.head_dim"):
        return 0
    taps = max(0, (header.own("ssm.conv_kernel") or 1) - 1)
    return taps * (inner + 2 * (header.own("ssm.group_count") or 0) * state) + state * inner


def _per_layer(header: Header, key: str, count: int, missing: int | None) -> tuple[int, ...]:
    """One number for each layer, which the file tells once or one by one; empty where it must be told."""
    found = header.keys.get(f"{header.arch}.{key}")
    if isinstance(found, Array):
        items = tuple(int(each) for each in found.items[:count])
        return items + (0,) * (count - len(items))
    if isinstance(found, int):
        return (int(found),) * count
    return () if missing is None else (missing,) * count


def _flags(header: Header, key: str, count: int) -> tuple[bool, ...]:
    """Which layers look through a window. Files tell it as a list, or as "all but each so many-th"."""
    found = header.keys.get(f"{header.arch}.{key}")
    if isinstance(found, Array):
        return tuple(bool(each) for each in found.items[:count])
    if isinstance(found, int) and not isinstance(found, bool) and found > 0:
        return tuple((at + 1) % found != 0 for at in range(count))
    return ()


def _unknown(header: Header, grouped: Mapping[int, Mapping[str, Tensor]], reader: _Layers) -> tuple[str, ...]:
    names = {name for tensors in grouped.values() for name in tensors}
    told = []
    if reader.has_unknown_state:
        told.append("the state of its recurrent layers")
    elif any(name.startswith(_RECURRENT) for name in names):
        told.append("the buffers of its recurrent layers")
    if any(name.startswith("indexer") for name in names):
        told.append("the index of its sparse attention")
    if any(name.startswith("cross_attn") for name in names):
        told.append("the cells of its encoder")
    if not grouped:
        told.append("its layers: the file names none")
    elif not reader.n_embd or not (header.length("tokenizer.ggml.tokens") or header.own("vocab_size")):
        told.append("its buffers: the header does not say how wide it is, or what its vocabulary is")
    return tuple(told)
