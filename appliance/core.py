"""The vocabulary: frozen values that travel between rooms.

Promise: standard library and our errors only, no I/O, no behaviour beyond small derivations. Fields
that can hold a prompt, an answer or a secret are kept out of every ``repr``, so that no log line,
traceback or assertion message can carry them by accident.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from appliance.terms import Endpoint, Terms


class Genre(StrEnum):
    """What a document is that keys refer to."""

    PROMPT = "prompt"
    GUARDRAILS = "guardrails"


class Role(StrEnum):
    """What a principal may do; `accounts.roles` maps roles to permissions."""

    KIOSK = "kiosk"
    DEVELOPER = "developer"
    OPERATOR = "operator"
    ADMIN = "admin"
    AUDITOR = "auditor"
    PRIVACY = "privacy"
    WITNESS = "witness"


PEOPLE: Final = (Role.OPERATOR, Role.ADMIN, Role.AUDITOR, Role.PRIVACY, Role.WITNESS)  # who may have accounts


class FinishReason(StrEnum):
    """Why an answer ended, in the words of the OpenAI API."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class Outcome(StrEnum):
    """How a request was closed on the record (law 3: every opening gets exactly one)."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    CLIENT_GONE = "client_gone"
    FAILED = "failed"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: one API key, or one person at the console (who has no terms)."""

    key_id: str
    name: str
    role: Role
    terms: Terms = field(default_factory=Terms)

    @property
    def tenant(self) -> str:
        """With whom it shares what a worker computed: with nobody, unless its terms name a profile."""
        profile = self.terms.prefix_profile
        return f"profile:{profile}" if profile else self.key_id


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a call comes from. It names a place and sometimes a person: sealed on the record."""

    address: str
    user_agent: str = ""
    certificate: str = ""  # that the client showed: its SHA-256, hex
    subject: str = ""  # and whom it names

    def told(self) -> dict[str, str]:
        """As it is sealed."""
        told = {"address": self.address, "user_agent": self.user_agent}
        if self.certificate:
            told |= {"certificate_sha256": self.certificate, "certificate_subject": self.subject}
        return told


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model made, as a conversation carries it on. `arguments` is JSON text."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation, as the caller gave it.

    Roles are `system`, `user`, `assistant` and `tool`; a tool's turn names the call that it answers.
    """

    role: str
    content: str = field(repr=False)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = field(default="", repr=False)  # what an assistant had thought before it answered


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask the caller to call. `parameters` is JSON Schema as text."""

    name: str
    description: str = field(default="", repr=False)
    parameters: str = field(default='{"type":"object"}', repr=False)


@dataclass(frozen=True, slots=True)
class Tooling:
    """What may be called, and whether something must be.

    `choice` is `auto` (the model decides), `required` (at least one call) or `named` (exactly a call
    of the first tool). Where nothing may be called there is no Tooling.
    """

    tools: tuple[Tool, ...]
    choice: Literal["auto", "required", "named"] = "auto"
    parallel: bool = True  # more than one call in one answer


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. Temperature 0 is greedy; `top_k` 0 means the whole vocabulary."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 40
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)
    logit_bias: tuple[tuple[int, float], ...] = field(default=(), repr=False)  # token id, added to its logit
    top_logprobs: int | None = None  # None: no logprobs; else how many alternatives of each token


@dataclass(frozen=True, slots=True)
class Setup:
    """What a reproducible answer depends on besides its request and its model; all of it on the record."""

    n_ctx: int
    n_batch: int
    n_threads: int
    flash_attn: bool
    library: str = ""
    backend: str = ""
    template_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a reproducible answer was, token by token: ids, and eight bytes of each token's logits' hash."""

    tokens: tuple[int, ...] = field(repr=False)
    digests: tuple[str, ...] = field(repr=False)  # hex


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """One admitted-or-not question, independent of the wire format that carried it.

    It holds a conversation in `messages`, or texts or token ids to go on from in `prompts`. It has
    `n` answers for each of them: choice `i` belongs to prompt `i // n`.
    """

    request_id: str
    model: str
    messages: tuple[ChatMessage, ...] = field(repr=False)
    sampling: SamplingParams
    endpoint: Endpoint = Endpoint.CHAT
    prompts: tuple[str | tuple[int, ...], ...] = field(default=(), repr=False)
    n: int = 1
    stream: bool = False
    schema: str = field(default="", repr=False)  # JSON Schema that the answer keeps to; empty: none
    tooling: Tooling | None = None
    # How long a model that thinks may think, in its template's words; empty: as it does by itself.
    effort: Literal["", "none", "minimal", "low", "medium", "high"] = ""
    timeout_seconds: float | None = None  # the caller's own; the appliance's holds besides
    reproducible: bool = False
    setup: Setup | None = None  # where reproducible: it is computed alone, in exactly this setup
    # What the caller sent besides (user, metadata, …): no effect on the answer, sealed on the record.
    annotations: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def num_choices(self) -> int:
        """How many answers there will be."""
        return self.n * max(1, len(self.prompts))


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request, of all its choices together; a prompt counts once."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0  # of the completion's

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, in microseconds, measured in the worker."""

    queue_us: int = 0
    prefill_us: int = 0
    decode_us: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The worker took the prompt: from here on an answer comes."""

    prompt_tokens: int
    begins_thinking: bool = False  # the prompt's last tokens opened the model's reasoning
    index: int = 0  # of the choice


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was chosen, its log-probability, and the likeliest ones in its place."""

    token: bytes = field(repr=False)
    logprob: float
    top: tuple[tuple[bytes, float], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of what is said to the caller."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """A piece of what a model thought before it spoke."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallPart:
    """A piece of a tool call. The first one of a call has its name, the later ones only `arguments`.

    `index` counts the calls of one answer from 0, without gaps.
    """

    index: int
    name: str = ""
    arguments: str = field(default="", repr=False)


Part = TextPart | ReasoningPart | CallPart


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer: text at UTF-8 borders as the model wrote it, and the tokens that it took.

    `parts` is the same text as its dialect reads it; empty until the exchange has read it.
    """

    text: str = field(repr=False)
    num_tokens: int = 1
    index: int = 0  # of the choice
    logprobs: tuple[TokenLogprob, ...] = field(default=(), repr=False)
    parts: tuple[Part, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """The one terminal event of a successful generation; `reasons` holds one for each choice."""

    reason: FinishReason  # of the first choice: the request's outcome
    usage: Usage
    timings: Timings = Timings()
    trace: Trace | None = None  # of reproducible requests
    reasons: tuple[FinishReason, ...] = ()
    stops: tuple[str, ...] = field(default=(), repr=False)  # for each choice, the stop string met, or ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that an entry is durable on the audit log: `x-audit-record` and `x-audit-leaf`."""

    origin: str
    seq: int
    leaf: bytes

    @property
    def record(self) -> str:
        return f"{self.origin}/{self.seq}"


class Purpose(StrEnum):
    """What a model file is for."""

    CHAT = "chat"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    ADAPTER = "adapter"  # a LoRA file: it answers nothing by itself


@dataclass(frozen=True, slots=True)
class ModelPart:
    """One file of a model that is split into several."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA file, as an alias lays it over its model."""

    id: str
    sha256: str
    path: Path
    size_bytes: int
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as its TOML in `models/` pins it, or as it was imported.

    A split model has all its files in `parts`, the first one is `path`, and its `sha256` is that of the
    text which `sha256sum` prints for them in order. `adapter` comes from the alias that was asked for;
    `id` and `sha256` stay the model's own.
    """

    id: str
    sha256: str
    size_bytes: int
    path: Path
    aliases: tuple[str, ...] = ()
    n_ctx: int = 8192
    licence: str = ""
    created: int = 0  # Unix seconds, told by /v1/models
    sampling: SamplingParams = SamplingParams()  # used where a caller names no value
    purpose: Purpose = Purpose.CHAT
    parts: tuple[ModelPart, ...] = ()  # empty: the one file at `path`
    adapter: Adapter | None = None
