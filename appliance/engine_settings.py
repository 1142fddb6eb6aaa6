"""`[engine]` of appliance.toml: what models get of the machine. A part of `config`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]


class SharedPrefix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A system prompt that is no secret: its cells serve every key, and are computed at the start."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    system: Annotated[str, Meta(min_length=1, max_length=1_000_000)]


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The worker's share of the machine. 0 threads means: measured when the model is loaded first."""

    n_ctx: Positive = 16384  # cells of the key-value pool, shared by all running sequences
    n_seq_max: Annotated[int, Meta(ge=1, le=64)] = 16
    n_batch: Annotated[int, Meta(ge=64, le=8192)] = 512
    n_threads: Annotated[int, Meta(ge=0, le=512)] = 0
    n_threads_batch: Annotated[int, Meta(ge=0, le=512)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"  # what may compute (engine/devices.py)
    n_gpu_layers: Annotated[int, Meta(ge=-1)] = -1  # -1: as many as fit; 0: the processor computes
    cpu_variant: Annotated[str, Meta(pattern=r"^[a-z0-9_.]{0,40}$")] = ""  # of llama.cpp's; empty: the best
    # Longest step while answers are being written: prompts are read in chunks that keep to it.
    step_target_ms: Annotated[int, Meta(ge=10, le=10_000)] = 150
    # Cells kept for prefixes that may come again; 0 switches sharing off.
    prefix_cache_cells: Annotated[int, Meta(ge=0)] = 2048
    spill_mib: Annotated[int, Meta(ge=0)] = 512  # host memory for prefixes that had to leave the pool
    shared_prefixes: tuple[SharedPrefix, ...] = ()
    speculation: bool = True
    # Longest input of an embedding in tokens, and tokens of one batch of them.
    embedding_n_ctx: Annotated[int, Meta(ge=64, le=131_072)] = 2048
    embedding_n_batch: Annotated[int, Meta(ge=64, le=8192)] = 256
    # Of all models in memory together; 0: what the machine has, less a reserve.
    memory_mib: Annotated[int, Meta(ge=0)] = 0
    # Models, by id or alias, that are loaded at the start and stay; `default` always is.
    pinned: tuple[str, ...] = ()
    idle_minutes: Annotated[int, Meta(ge=0, le=10_080)] = (
        0  # 0: a model goes only where another needs the room
    )
    turn_seconds: Annotated[int, Meta(ge=1, le=600)] = (
        20  # then a busy model makes room for one that is asked
    )
    max_waiting: Positive = 256  # of each model
    load_timeout_seconds: Positive = 300
    request_timeout_seconds: Positive = 600
    restart_backoff_max_seconds: Positive = 30
    silent_seconds: Annotated[int, Meta(ge=2, le=3600)] = 20  # then a worker has hung, and is started anew
    worker_socket: str = ""  # where a worker is asked for; empty: the gateway starts it itself
    sandbox: Literal["required", "available"] = (
        "available"  # of a worker, where the kernel has not all layers
    )


def problem(settings: Engine) -> str:
    """What of these settings can not be together; empty where nothing."""
    if settings.n_batch <= settings.n_seq_max:
        return "engine.n_batch must be above engine.n_seq_max"
    if settings.device == "cuda" and settings.n_gpu_layers == 0:
        return "engine.device = 'cuda' and engine.n_gpu_layers = 0 contradict each other"
    if settings.worker_socket and not settings.worker_socket.startswith("/"):
        return "engine.worker_socket must begin with /"
    names = [each.name for each in settings.shared_prefixes]
    if len(names) != len(set(names)):
        return "two engine.shared_prefixes have one name"
    return ""
