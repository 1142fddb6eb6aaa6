"""What can be asked besides a chat: the tasks, and what each of them is answered with.

Frozen values like those of `core`, with the same promise: standard library only, no I/O, and nothing
that holds a caller's words in any ``repr``. A result says of itself what the record keeps of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from appliance.core import ChatMessage, Finished, InferenceRequest, Tooling
from appliance.terms import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What every task has. A task is answered in one piece."""

    stream: ClassVar[bool] = False
    request_id: str
    model: str
    # What the caller sent besides (user, …): no effect on the answer, sealed on the record.
    annotations: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedTask(_Task):
    """One vector for each input: a text, or the ids of its tokens."""

    endpoint: ClassVar[Endpoint] = Endpoint.EMBEDDINGS
    inputs: tuple[str | tuple[int, ...], ...] = field(repr=False)
    dimensions: int | None = None  # refused by the worker unless it is the model's own size


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTask(_Task):
    """How well each document answers a query."""

    endpoint: ClassVar[Endpoint] = Endpoint.RERANK
    query: str = field(repr=False)
    documents: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeTask(_Task):
    """The token ids of a text, or of a conversation in the model's chat template."""

    endpoint: ClassVar[Endpoint] = Endpoint.TOKENIZE
    source: str | tuple[ChatMessage, ...] = field(repr=False)
    add_special: bool = False
    parse_special: bool = False  # only then does a caller's text become control tokens
    with_pieces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeTask(_Task):
    """The text of token ids."""

    endpoint: ClassVar[Endpoint] = Endpoint.DETOKENIZE
    tokens: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountTask(_Task):
    """How many tokens a conversation takes of the context before its answer begins."""

    endpoint: ClassVar[Endpoint] = Endpoint.INPUT_TOKENS
    messages: tuple[ChatMessage, ...] = field(repr=False)
    tooling: Tooling | None = None
    effort: Literal["", "none", "minimal", "low", "medium", "high"] = ""


Task = EmbedTask | RankTask | TokenizeTask | DetokenizeTask | CountTask


def endpoint_of(request: InferenceRequest | Task) -> Endpoint:
    """The word that the record and the metrics use for this kind of question."""
    return request.endpoint


@dataclass(frozen=True, slots=True)
class Vectors:
    """`len(data) / (4 * n_embd)` vectors of length 1, one after the other, float32, little-endian."""

    data: bytes = field(repr=False)
    n_embd: int

    @property
    def text(self) -> str:
        """Empty: the record keeps their digest only. They are long, and can be computed again."""
        return ""

    def rows(self) -> Iterator[bytes]:
        """The bytes of each vector, in the order of the inputs."""
        size = 4 * self.n_embd
        return (self.data[at : at + size] for at in range(0, len(self.data), size))


@dataclass(frozen=True, slots=True)
class Ranking:
    """One score for each document, in their order; `method` says what a score means."""

    scores: tuple[float, ...]
    method: Literal["rank", "cosine"]

    @property
    def text(self) -> str:
        return json.dumps({"method": self.method, "scores": self.scores})


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids, the bytes of each of them where asked for, and the model's context in tokens."""

    ids: tuple[int, ...] = field(repr=False)
    pieces: tuple[bytes, ...] = field(repr=False)
    n_ctx: int

    @property
    def text(self) -> str:
        return json.dumps(self.ids)


@dataclass(frozen=True, slots=True)
class Text:
    """What token ids spell; half characters are U+FFFD."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A number of tokens."""

    num_tokens: int

    @property
    def text(self) -> str:
        return str(self.num_tokens)


Result = Vectors | Ranking | Tokens | Text | TokenCount


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Finished):
    """The one event of a task: finished, with its result in hand.

    The closing record seals the result's `text`; `output_sha256` is over it in UTF-8, of vectors over
    their bytes.
    """

    result: Result = field(repr=False)
