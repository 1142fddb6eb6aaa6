"""What gateway and worker say to each other: one struct per kind, fields only.

Law of this border: every `Generate` gets exactly one terminal message — `Finished`, `Rejected` or
`Failed` — unless the worker dies, and then the supervisor fails it. Both sides import this file and
`channel`, and nothing else of each other.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

# What a worker says goes onto the record in plaintext: numbers that canonical JSON takes, codes that
# can carry no content. Anything else does not decode, and the worker is given up.
Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
Code = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$")]
Label = Annotated[str, Meta(max_length=300)]


class _Message(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """Base: messages are immutable and tagged by their class name."""


# --- gateway → worker -------------------------------------------------------------------------


class LoadModel(_Message, frozen=True):
    """The first message: what to load and with which settings. Answered by Ready or LoadFailed."""

    model_id: str
    path: str
    n_ctx: int
    n_seq_max: int
    n_batch: int
    n_threads: int
    n_threads_batch: int
    n_gpu_layers: int
    max_waiting: int
    step_target_us: int
    prefix_cache_cells: int


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: str
    content: str


class Sampling(msgspec.Struct, frozen=True):
    """`core.SamplingParams`, resolved: no value is left to the worker's choice but the seed's."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    max_tokens: int | None
    stop: tuple[str, ...]


class Generate(_Message, frozen=True):
    """A question whose opening is durable on the audit log (law 1)."""

    request_id: str
    messages: tuple[Turn, ...]
    sampling: Sampling
    tenant: str = ""  # whose prefixes may be shared: requests of one tenant only


class Abort(_Message, frozen=True):
    """The caller has gone: free the sequence at the next step. Answered by Finished as always."""

    request_id: str


class Shutdown(_Message, frozen=True):
    """Finish nothing, exit now. End of file on the channel means the same."""


# --- worker → gateway -------------------------------------------------------------------------


class Ready(_Message, frozen=True):
    """The model is loaded and answers. Sizes are what the library granted, not what was asked."""

    n_ctx: int
    n_ctx_train: int
    n_seq_max: int
    n_vocab: int
    n_params: int
    description: str
    backend: Label  # e.g. the CPU variant or GPU that was chosen
    library: Label  # version of the library that computes
    template_sha256: str
    load_us: Count


class LoadFailed(_Message, frozen=True):
    """The model can not be loaded; the worker exits after saying so."""

    message: str


class Started(_Message, frozen=True):
    """The prompt was rendered, tokenised and accepted; an answer will follow."""

    request_id: str
    prompt_tokens: Count


class Delta(_Message, frozen=True):
    """A piece of the answer, at UTF-8 borders, stop strings held back."""

    request_id: str
    text: str
    num_tokens: Count


class Finished(_Message, frozen=True):
    """Terminal: the answer is complete, or was aborted."""

    request_id: str
    reason: Literal["stop", "length", "aborted"]
    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count
    queue_us: Count
    prefill_us: Count
    decode_us: Count


class Rejected(_Message, frozen=True):
    """Terminal: the caller's fault (context too long, template refuses). Nothing was computed."""

    request_id: str
    code: Code
    message: str
    param: str | None = None


class Failed(_Message, frozen=True):
    """Terminal: the worker's fault or its overload."""

    request_id: str
    code: Code
    message: str


class Stats(_Message, frozen=True):
    """A picture of the scheduler, sent at most once a second while there is work."""

    running: int
    waiting: int
    cells_used: int
    cells_cached: int
    steps: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


ToWorker = LoadModel | Generate | Abort | Shutdown
ToGateway = Ready | LoadFailed | Started | Delta | Finished | Rejected | Failed | Stats
