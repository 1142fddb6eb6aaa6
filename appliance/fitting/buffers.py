"""What one context takes besides the weights: cells, states, and the buffers that it computes in. Pure.

llama.cpp lays the tensors of its largest graph out once, and where a tensor is done the next one takes its
place. So a buffer is as large as the fullest moment of the graph: in attention, in the feed-forward part,
or at the head. The widths that stand beside each other then were found by loading (DESIGN.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.fitting.shape import Layer, Shape
from appliance.fitting.wanted import padded
from appliance.gguf.types import TENSOR_TYPES

FLOAT: Final = 4
HALF: Final = 2
_INDEX: Final = 8  # bytes of a place in the cells
_STANDING: Final = 4  # rows of the model's width that stand through a layer: input, residual, norm, one more
_WORK_BYTES: Final = 1.2  # of a number as the processor's kernels want it: 8 bits and their scales


@dataclass(frozen=True, slots=True)
class Context:
    """One of llama.cpp's. `n_ubatch` is `n_batch` everywhere in the worker."""

    n_ctx: int
    n_seq_max: int
    n_batch: int
    n_outputs: int
    flash_attn: bool
    unified: bool = True
    with_vectors: bool = False
    cell_type: int = 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes. `layers`: cells and states of each layer, which lie where the layer computes."""

    layers: tuple[int, ...]
    compute: int
    inputs: int  # the part of `compute` that stays with the host when the layers are elsewhere
    outputs: int
    work: int  # from the first batches on: of the processor's kernels, and rows of logits that come then

    @property
    def cells(self) -> int:
        """Of all layers."""
        return sum(self.layers)


def sizes_of(shape: Shape, context: Context) -> Sizes:
    """What the library allocates for it."""
    n_ctx, num_streams = _granted(context)
    n_batch = min(context.n_ctx, context.n_batch) if shape.is_causal else context.n_batch
    sequences = context.n_seq_max
    # The graph for reserving is made of whole sequences of one length.
    num_tokens = -(-min(n_ctx, n_batch) // sequences) * sequences
    num_outputs = min(num_tokens, context.n_outputs)
    span = n_ctx // num_streams if shape.has_cells else num_tokens
    inputs = _inputs(shape, context, num_tokens, span)
    row = FLOAT * (shape.n_vocab + (shape.n_embd if context.with_vectors else 0))
    attention = max((_attention(shape, each, context, span) for each in shape.layers), default=0)
    forward = max((each.forward for each in shape.layers), default=0)
    moment = _STANDING * shape.n_embd + max(attention, forward)
    rows = 2 if context.with_vectors else 1
    head = shape.n_embd * num_tokens + num_outputs * (shape.n_vocab * shape.has_head + rows * shape.n_embd)
    states = max((each.state for each in shape.layers), default=0) * sequences
    widest = max([shape.n_embd, *(max(each.forward, each.query) for each in shape.layers)])
    work = int(_WORK_BYTES * widest * num_tokens)
    if not context.flash_attn:  # the weights of attention, as 16-bit numbers
        work = max(work, HALF * num_tokens * span * max((each.heads for each in shape.layers), default=0))
    return Sizes(
        layers=_cells(shape, context, n_ctx),
        compute=max(inputs + FLOAT * (num_tokens * moment + states), FLOAT * head),
        inputs=inputs + FLOAT * num_tokens * shape.n_embd,
        outputs=row * sequences,
        work=work + row * max(0, num_outputs - sequences),
    )


def _granted(context: Context) -> tuple[int, int]:
    """Cells and streams: without a unified pool each sequence has as many as every other."""
    if context.unified:
        return padded(context.n_ctx), 1
    of_each = padded(max(1, padded(context.n_ctx) // context.n_seq_max))
    return of_each * context.n_seq_max, context.n_seq_max


def _cells(shape: Shape, context: Context, n_ctx: int) -> tuple[int, ...]:
    kind = TENSOR_TYPES[context.cell_type]
    widest = max((each.values for each in shape.layers), default=0)
    found = []
    for each in shape.layers:
        numbers = 0
        if each.cell and shape.has_cells:
            # Transposed values of layers that differ are padded to the widest.
            values = widest if each.values and not context.flash_attn else each.values
            numbers = n_ctx * (each.keys + values)
        state = FLOAT * each.state * context.n_seq_max
        found.append(numbers // kind.block * kind.num_bytes + state)
    return tuple(found)


def _inputs(shape: Shape, context: Context, num_tokens: int, span: int) -> int:
    """Masks, and where each token's keys and values go. Models with a window have two of both."""
    if not any(each.heads for each in shape.layers):
        return 0
    mask = span * num_tokens * (HALF if context.flash_attn else FLOAT)
    places = num_tokens * _INDEX
    if not context.flash_attn and shape.has_cells:
        places *= 1 + max((each.values for each in shape.layers), default=0)
    return (mask + places) * (2 if shape.window else 1)


def _attention(shape: Shape, layer: Layer, context: Context, span: int) -> int:
    """Numbers per token: queries, and without flash attention a weight for each cell and head."""
    if context.flash_attn:
        return layer.query
    # What no cells keep is laid out anew before it is weighed.
    return layer.query * (1 if shape.has_cells else 2) + span * layer.heads
