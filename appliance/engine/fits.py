"""Does it fit? Asked before a worker is started, in the worker's own first message. Reads the file's header.

Where a header can not be read there is no answer: the worker says what is wrong with the file.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.engine.messages import LoadModel, Ready
from appliance.errors import RequestError, Unavailable
from appliance.fitting import Device, Estimate, Kind, Machine, Plan, Shape, Wanted, estimate, plan, shape_of
from appliance.fitting.advice import changes
from appliance.gguf import header

DOES_NOT_FIT: Final = "model_does_not_fit"
HINT: Final = (
    "appliance model show says what would change it: engine.n_ctx, another quantization, more memory"
)
_MIB: Final = 1024 * 1024
_NAMED: Final = (Kind.WEIGHTS, Kind.CELLS, Kind.COMPUTE)


def wanted_of(load: LoadModel) -> Wanted:
    """What the message asks for."""
    tuning = load.tuning
    return Wanted(
        n_ctx=load.n_ctx,
        n_seq_max=load.n_seq_max,
        n_batch=load.n_batch,
        prefix_cache_cells=load.prefix_cache_cells,
        spill_bytes=load.spill_bytes,
        embedding_n_ctx=load.embedding_n_ctx,
        embedding_n_batch=load.embedding_n_batch,
        adapters=sum(size for _, size, _ in map(_facts, {Path(each.path) for each in load.adapters})),
        chats=load.purpose == "chat",
        tuned=None if tuning is None else (tuning.flash_attn, tuning.apart),
    )


def reckoned(load: LoadModel, *, on_host: bool = True) -> Estimate | None:
    """What it will take; None where the header can not be read."""
    shape = shape_at([Path(each) for each in load.parts or (load.path,)])
    return None if shape is None else estimate(shape, wanted_of(load), on_host=on_host)


def check(load: LoadModel, machine: Machine) -> Plan | None:
    """The plan for it; None where the header can not be read. Unavailable where it does not fit."""
    on_host = not machine.devices or load.n_gpu_layers == 0
    found = reckoned(load, on_host=on_host)
    if found is None:
        return None
    made = plan(found, machine, load.n_gpu_layers)
    if not made.fits:
        hint = "; ".join(each.words for each in changes(found, machine, load.n_gpu_layers))
        raise Unavailable(f"{load.model_id} does not fit: {said(found, made)}", code=DOES_NOT_FIT, hint=hint)
    return made


def device_of(told: Mapping[str, Any]) -> Device:
    """A device as `loaded` tells it."""
    return Device(str(told["name"]), int(told["free_bytes"]), int(told["total_bytes"]))


def loaded(ready: Ready, worker_bytes: int | None) -> dict[str, Any]:
    """What a load took, by kind, for whoever compares it with the estimate."""
    buffers: dict[str, int] = {}
    for each in ready.buffers:
        buffers[each.kind] = buffers.get(each.kind, 0) + each.bytes
    return {
        "buffers": buffers,
        "resident_bytes": worker_bytes or ready.resident_bytes,
        "memories": [msgspec.to_builtins(each) for each in ready.memories],
        "n_gpu_layers": ready.n_gpu_layers,
    }


def said(found: Estimate, made: Plan) -> str:
    """A plan's figures in one sentence."""
    named = ", ".join(f"{kind.value} {_mib(found.of(kind))}" for kind in _NAMED)
    rooms = "; ".join(
        f"on the {each.name} it needs {_mib(each.needed)} MiB and {_mib(max(0, each.free))} are free"
        for each in made.rooms
        if each.needed
    )
    less = f"; not counted: {', '.join(found.unknown)}" if found.unknown else ""
    return f"{rooms} ({named} MiB){less}"


def shape_at(paths: Sequence[Path]) -> Shape | None:
    """Of a model in these files; None where a header can not be read."""
    return _shape(tuple(map(_facts, paths)))


_Facts = tuple[Path, int, int]  # a file, its size, and when it was written last


def _facts(path: Path) -> _Facts:
    try:
        told = path.stat()
    except OSError:
        return path, 0, 0
    return path, told.st_size, told.st_mtime_ns


@functools.lru_cache(maxsize=32)
def _shape(files: tuple[_Facts, ...]) -> Shape | None:
    """Of these files. Read once: a worker may be started anew each half minute."""
    try:
        return shape_of([header.read(path) for path, _, _ in files])
    except RequestError:
        return None


def _mib(size: int) -> int:
    return -(-size // _MIB)
