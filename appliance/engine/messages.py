"""What gateway and worker say to each other: one struct per kind, fields only.

Law of this border: every `Generate` gets exactly one terminal message — `Finished`, `Rejected` or
`Failed` — unless the worker dies, and then the supervisor fails it. So does every task (`Embed` …
`Count`): its answer, `Rejected` or `Failed`. Both sides import this file and `channel`, and nothing
else of each other.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from appliance.engine.amounts import Buffer, Memory
from appliance.engine.question import Sampling, Tools, Turn

# What a worker says goes onto the record in plaintext: numbers that canonical JSON takes, codes that
# can carry no content. Anything else does not decode, and the worker is given up.
Number = Annotated[int, Meta(ge=0, lt=1 << 53)]
Code = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$")]
Label = Annotated[str, Meta(max_length=300)]

DIGEST_BYTES = 8
# Upper bounds of the steps' histogram, microseconds.
STEP_BUCKETS_US = (2_000, 5_000, 10_000, 20_000, 35_000, 50_000, 75_000, 100_000, 150_000, 300_000, 1_000_000)


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
    spill_bytes: int = 0  # of the host's memory, for prefixes that had to leave the pool
    speculation: bool = True
    shared_prefixes: tuple[str, ...] = ()  # system prompts that all tenants may share
    tuning: Tuning | None = None  # None: the worker measures what fits this machine
    thorough: bool = False  # measure longer, for a person who waits for it
    embedding_n_ctx: int = 2048  # longest input of an embedding, in tokens
    embedding_n_batch: int = 256  # tokens of one embedding batch
    sandbox: Literal["required", "available"] = "available"  # whether every layer must be there
    device: Literal["auto", "cpu", "cuda"] = "auto"  # what may compute (devices.py)
    cpu_variant: str = ""  # of llama.cpp's; empty: the best that this processor runs
    purpose: Literal["chat", "embedding", "rerank"] = "chat"  # only a model for chat writes answers
    parts: tuple[str, ...] = ()  # the files of a split model in their order; empty: `path` is all of it
    adapters: tuple[AdapterFile, ...] = ()  # what questions may name


class AdapterFile(msgspec.Struct, frozen=True):
    """A LoRA file, and how strongly it is laid over the model for whoever names `id`."""

    id: str
    path: str
    scale: float


class Tuning(msgspec.Struct, frozen=True):
    """How the library computes on this machine. Results of different tunings differ in rounding."""

    flash_attn: bool
    n_threads: int  # of steps of one token
    n_threads_batch: int  # of larger steps
    apart: bool = False  # flash attention, in a pool of its own, for requests that share nothing
    backend: Label = ""  # that it was measured on, and holds for; empty: any


class Setup(msgspec.Struct, frozen=True):
    """Everything that a reproducible answer depends on besides its request, its model and its machine."""

    n_ctx: int
    n_batch: int  # prompts are read in chunks of so many tokens
    n_threads: int
    flash_attn: bool


class Trial(msgspec.Struct, frozen=True):
    """One candidate's figures, in tokens/s: a prompt, one answer, a room of eight with arrivals, and
    one whose people share nothing.
    """

    tuning: Tuning
    prefill: float
    decode_1: float
    room: float
    apart: float = 0.0


class Generate(_Message, frozen=True):
    """A question whose opening is durable on the audit log (law 1).

    Its prompt is the conversation in the model's chat template, or `prompt` as it stands.
    """

    request_id: str
    messages: tuple[Turn, ...]
    sampling: Sampling
    tenant: str = ""  # whose prefixes may be shared: requests of one tenant only
    schema: str = ""  # JSON Schema that the answer keeps to; empty: none
    setup: Setup | None = None  # reproducible: computed alone, in exactly this setup
    prompt: str | tuple[int, ...] | None = None
    tools: Tools | None = None
    effort: str = ""  # how long a model that thinks may think; empty: as it does by itself
    adapter: str = ""  # the id of one that was loaded; empty: the model as it is


class Embed(_Message, frozen=True):
    """A vector for each input: a text, or token ids. Answered by Embedded."""

    request_id: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None  # Rejected unless it is the model's own size


class Rank(_Message, frozen=True):
    """A score for each document. Answered by Ranked."""

    request_id: str
    query: str
    documents: tuple[str, ...]


class Tokenize(_Message, frozen=True):
    """The tokens of a text, or of a conversation in the chat template. Answered by Tokenized.

    `add_special` adds what the vocabulary puts around a text, `parse_special` reads control tokens
    in it; both say nothing about a conversation, whose control tokens are the template's.
    """

    request_id: str
    source: str | tuple[Turn, ...]
    add_special: bool = False
    parse_special: bool = False
    with_pieces: bool = False


class Detokenize(_Message, frozen=True):
    """The text of tokens. Answered by Detokenized."""

    request_id: str
    tokens: tuple[int, ...]


class Count(_Message, frozen=True):
    """The number of tokens of a conversation in the chat template. Answered by Counted."""

    request_id: str
    messages: tuple[Turn, ...]
    tools: Tools | None = None
    effort: str = ""


class Abort(_Message, frozen=True):
    """The caller has gone: free the sequence at the next step. Answered by Finished as always, for a
    task by Failed.
    """

    request_id: str


class Shutdown(_Message, frozen=True):
    """Finish nothing, exit now. End of file on the channel means the same."""


# --- worker → gateway -------------------------------------------------------------------------


class Ready(_Message, frozen=True):
    """The model is loaded and answers. Sizes are what the library granted, not what was asked."""

    n_ctx: int  # that one request may use
    n_ctx_train: int
    n_cells: int  # of all pools together
    n_seq_max: int
    n_vocab: int
    n_params: int
    description: str
    backend: Label  # e.g. the CPU variant or GPU that was chosen
    library: Label  # version of the library that computes
    template_sha256: str
    load_us: Number
    can_share_prefixes: bool
    cell_bytes: Number
    tuning: Tuning
    setup: Setup  # of reproducible requests
    trials: tuple[Trial, ...] = ()  # what was measured to find the tuning; empty where it was given
    pid: Number = 0  # for people who look for it; nobody sends it signals
    resident_bytes: Number = 0  # of the machine's memory, model and pools included; 0: it can not tell
    dialect: Label = "plain"  # how this model writes tool calls and thoughts: a name in `dialects`
    calls_natively: bool = False  # its template knows tools; else they are told in words
    thinks: bool = False  # it has a place for reasoning before its answers
    can_skip_thinking: bool = False  # its template can tell it to answer without
    sandbox: tuple[Code, ...] = ()  # layers that hold around it (worker/sandbox), from its first prompt on
    fallback: Code | None = None  # why no GPU computes though its backend is installed (devices.py)
    fallback_says: Label = ""
    purpose: Code = "chat"  # what it was loaded for: no other one than "chat" writes answers
    adapters: tuple[str, ...] = ()  # the ids that questions may name
    buffers: tuple[Buffer, ...] = ()  # of the weights and of every pool, as the library said
    memories: tuple[Memory, ...] = ()  # of the GPUs, before this model was loaded
    n_gpu_layers: Number = 0  # that lie there, the head counted as one


class LoadFailed(_Message, frozen=True):
    """The model can not be loaded; the worker exits after saying so."""

    message: str
    code: Code = "load_failed"


class Started(_Message, frozen=True):
    """The prompt was rendered, tokenised and accepted; an answer will follow."""

    request_id: str
    prompt_tokens: Number
    begins_thinking: bool = False  # the prompt's last tokens opened the model's reasoning


class Logprob(msgspec.Struct, frozen=True, array_like=True):
    """A token that was chosen, its log-probability, and the likeliest ones in its place."""

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


class Delta(_Message, frozen=True):
    """A piece of the answer, at UTF-8 borders, stop strings held back.

    The logprobs are of the tokens that were counted, which may be ahead of the text that is sent.
    """

    request_id: str
    text: str
    num_tokens: Number
    logprobs: tuple[Logprob, ...] = ()


class Finished(_Message, frozen=True):
    """Terminal: the answer is complete, or was aborted."""

    request_id: str
    reason: Literal["stop", "length", "aborted"]
    prompt_tokens: Number
    completion_tokens: Number
    cached_tokens: Number
    queue_us: Number
    prefill_us: Number
    decode_us: Number
    # Of reproducible requests: what was chosen, and DIGEST_BYTES of each token's logits.
    tokens: tuple[Number, ...] = ()
    digests: bytes = b""
    stop: str = ""  # the stop string that ended it, where one did


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


class Embedded(_Message, frozen=True):
    """Terminal: vectors of length 1 in the order of the inputs, float32, little-endian."""

    request_id: str
    vectors: bytes
    n_embd: Number
    prompt_tokens: Number
    queue_us: Number
    compute_us: Number


class Ranked(_Message, frozen=True):
    """Terminal: scores in the order of the documents, from a ranking head or as cosines."""

    request_id: str
    scores: tuple[float, ...]
    method: Literal["rank", "cosine"]
    prompt_tokens: Number
    queue_us: Number
    compute_us: Number


class Tokenized(_Message, frozen=True):
    """Terminal: token ids, and the bytes of each where asked for; `n_ctx` bounds prompt and answer
    together.
    """

    request_id: str
    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...]
    n_ctx: Number


class Detokenized(_Message, frozen=True):
    """Terminal: the text, control tokens spelt out, half characters as U+FFFD."""

    request_id: str
    text: str


class Counted(_Message, frozen=True):
    """Terminal: a number of tokens."""

    request_id: str
    num_tokens: Number


class Stats(_Message, frozen=True):
    """A picture of the scheduler, sent at most once a second while there is work."""

    running: int
    waiting: int
    cells_used: int
    cells_cached: int
    cells_spilled: int
    steps: int
    step_us: int  # of all steps together
    step_buckets: tuple[int, ...]  # steps by their time: STEP_BUCKETS_US, and longer ones
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    restored_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    resident_bytes: Number = 0  # as in Ready, now


class Pulse(_Message, frozen=True):
    """The worker lives: said each second from Ready on, by a thread that does nothing else."""

    busy_us: Number  # the longest that one of its threads has been at one piece of work; 0: all wait


TaskMessage = Embed | Rank | Tokenize | Detokenize | Count
TaskAnswer = Embedded | Ranked | Tokenized | Detokenized | Counted
ToWorker = LoadModel | Generate | TaskMessage | Abort | Shutdown
ToGateway = Ready | LoadFailed | Started | Delta | Finished | TaskAnswer | Rejected | Failed | Stats | Pulse
