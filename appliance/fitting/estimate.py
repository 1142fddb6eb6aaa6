"""How much memory a load takes, part by part. Pure.

`while loaded` is what stands when the worker says Ready, `later` what it may take after that: prefixes that
left the pool, the context of the first embedding, the one of a reproducible answer, the kernels' own work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from appliance.fitting.buffers import Context, Sizes, sizes_of
from appliance.fitting.shape import Shape
from appliance.fitting.wanted import (
    MAX_DRAFTS,
    MAX_INPUTS,
    REPRODUCIBLE_CHUNK,
    TRIAL_BATCH,
    TRIAL_BESIDE,
    TRIAL_CELLS,
    TRIAL_SEQUENCES,
    Wanted,
)

_MIB: Final = 1024 * 1024
# Python, NumPy, the grammars' compiler and the library itself, before a model is there.
PROGRAM_BYTES: Final = 54 * _MIB
TEXT_BYTES: Final = 180  # of an entry of vocabulary or merges in the library's tables and ours
_TUNINGS: Final = ((False, False), (True, False), (False, True))  # what the worker may come to


class Kind(StrEnum):
    """What memory is taken for."""

    WEIGHTS = "weights"
    CELLS = "cells"
    COMPUTE = "compute"
    OUTPUTS = "outputs"
    PROGRAM = "program"
    ADAPTERS = "adapters"
    MEASURING = "measuring"
    WORK = "work"
    SPILL = "spill"
    EMBEDDING = "embedding"
    LANE = "reproducible"


LATER: Final = frozenset({Kind.WORK, Kind.SPILL, Kind.EMBEDDING, Kind.LANE})


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes for one thing."""

    kind: Kind
    bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """All parts of a load on the host, and what of it lies where a layer is computed."""

    shape: Shape = field(repr=False)
    wanted: Wanted
    tuned: tuple[bool, bool]
    parts: tuple[Part, ...]
    layers: tuple[int, ...] = field(repr=False)  # bytes of each: weights, cells, states
    head: int  # the output's weights; a device needs its own where they are the input's
    inputs: int  # of the compute buffers: what the host keeps even where no layer is its own
    unknown: tuple[str, ...] = ()

    def of(self, kind: Kind) -> int:
        """Bytes of one kind; 0 where there is none."""
        return sum(each.bytes for each in self.parts if each.kind is kind)

    @property
    def loaded_bytes(self) -> int:
        """What stands when the worker says Ready, as soon as its buffers have been used."""
        return sum(each.bytes for each in self.parts if each.kind not in LATER)

    @property
    def later_bytes(self) -> int:
        """What it may take besides."""
        return sum(each.bytes for each in self.parts if each.kind in LATER)

    @property
    def total_bytes(self) -> int:
        """At most, and for good."""
        return self.loaded_bytes + self.later_bytes


def estimate(shape: Shape, wanted: Wanted, *, on_host: bool = True) -> Estimate:
    """Of a load with these settings. Where nothing is measured yet: the tuning that takes the most."""
    if not wanted.chats:
        return _for_vectors(shape, wanted, on_host=on_host)
    if wanted.tuned is not None:
        return _tuned(shape, wanted, wanted.tuned, on_host=on_host)
    found = [_tuned(shape, wanted, each, on_host=on_host) for each in _TUNINGS]
    return max(found, key=lambda each: each.loaded_bytes)


def _tuned(shape: Shape, wanted: Wanted, tuned: tuple[bool, bool], *, on_host: bool) -> Estimate:
    pools = wanted.pools(shape.n_ctx_train, can_share=shape.can_share_prefixes, tuned=tuned)
    contexts = [
        sizes_of(
            shape,
            Context(
                n_ctx=pool.n_ctx,
                n_seq_max=wanted.n_seq_max + 1,  # one to carry leaves to the host's memory
                n_batch=wanted.n_batch,
                n_outputs=wanted.n_seq_max + MAX_DRAFTS,
                flash_attn=pool.flash_attn,
                cell_type=wanted.cell_type,
            ),
        )
        for pool in pools
    ]
    later = [
        Part(Kind.WORK, sum(each.work for each in contexts)),
        Part(Kind.SPILL, wanted.spill_bytes if wanted.prefix_cache_cells else 0),
        Part(Kind.EMBEDDING, _at_work(_embedding(shape, wanted, on_host=on_host))),
        Part(Kind.LANE, _at_work(_lane(shape, wanted, pools[0].n_ctx))),
    ]
    measuring = 0
    if wanted.tuned is None:
        measuring = max(0, _measuring(shape, wanted) - sum(map(_whole, contexts)))
    return _put_together(shape, wanted, tuned, contexts, [*later, Part(Kind.MEASURING, measuring)])


def _for_vectors(shape: Shape, wanted: Wanted, *, on_host: bool) -> Estimate:
    context = _embedding(shape, wanted, on_host=on_host)
    later = [Part(Kind.WORK, context.work)]
    return _put_together(shape, wanted, (not on_host, False), [context], later)


def _put_together(
    shape: Shape, wanted: Wanted, tuned: tuple[bool, bool], contexts: Sequence[Sizes], others: Sequence[Part]
) -> Estimate:
    parts = [
        Part(Kind.WEIGHTS, shape.weights),
        Part(Kind.ADAPTERS, wanted.adapters),
        Part(Kind.CELLS, sum(each.cells for each in contexts)),
        Part(Kind.COMPUTE, sum(each.compute for each in contexts)),
        Part(Kind.OUTPUTS, sum(each.outputs for each in contexts)),
        Part(Kind.PROGRAM, PROGRAM_BYTES + TEXT_BYTES * shape.num_texts),
        *others,
    ]
    tied = shape.input_weights if shape.is_tied else 0
    return Estimate(
        shape=shape,
        wanted=wanted,
        tuned=tuned,
        parts=tuple(each for each in parts if each.bytes),
        layers=tuple(
            layer.weights + sum(each.layers[at] for each in contexts) for at, layer in enumerate(shape.layers)
        ),
        head=shape.output_weights + tied,
        inputs=sum(each.inputs for each in contexts),
        unknown=shape.unknown,
    )


def _embedding(shape: Shape, wanted: Wanted, *, on_host: bool) -> Sizes:
    """The context of the first embedding, as engine/worker/llama/embedding.py makes it."""
    longest = min(wanted.embedding_n_ctx, shape.n_ctx_train or wanted.embedding_n_ctx)
    splits = shape.is_causal and shape.has_cells
    n_batch = wanted.embedding_n_batch if splits else max(wanted.embedding_n_batch, longest)
    return sizes_of(
        shape,
        Context(
            n_ctx=n_batch + (longest if splits else 0),
            n_seq_max=1 if shape.is_recurrent else min(MAX_INPUTS, n_batch),
            n_batch=n_batch,
            n_outputs=n_batch,
            flash_attn=not on_host,
            with_vectors=True,
        ),
    )


def _lane(shape: Shape, wanted: Wanted, n_ctx: int) -> Sizes:
    """The context of one reproducible answer (engine/worker/llama/alone.py)."""
    longest = min(n_ctx, shape.n_ctx_train or n_ctx)
    context = Context(longest, 1, REPRODUCIBLE_CHUNK, 1, flash_attn=False, unified=False)
    return sizes_of(shape, replace(context, n_batch=min(REPRODUCIBLE_CHUNK, wanted.n_batch)))


def _measuring(shape: Shape, wanted: Wanted) -> int:
    """Both contexts of the tuner; they are gone before the pools come."""
    beside = max(0, min(TRIAL_BESIDE, wanted.n_ctx // 2 - TRIAL_CELLS))
    contexts = [
        Context(TRIAL_CELLS + beside, TRIAL_SEQUENCES, TRIAL_BATCH, TRIAL_SEQUENCES, flash_attn=flash)
        for flash in (False, True)
    ]
    return sum(_whole(sizes_of(shape, each)) for each in contexts)


def _whole(sizes: Sizes) -> int:
    return sizes.cells + sizes.compute + sizes.outputs


def _at_work(sizes: Sizes) -> int:
    return _whole(sizes) + sizes.work
