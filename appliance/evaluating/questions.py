"""What an evaluation asks an appliance, and what it is told: forms of the control socket, and of the port
behind which a suite is put to a model (`running`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=200)]  # of a model, or an alias
Text = Annotated[str, Meta(max_length=100_000)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
CaseId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

MAX_TOKENS = 8192


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One case's question. Suite and case stand sealed on the record beside it."""

    suite_sha256: Digest
    case: CaseId
    messages: Annotated[tuple[Turn, ...], Meta(min_length=1, max_length=100)]
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
    schema: Text = ""  # that the answer is held to while it is written; empty: none


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be compared by its meaning: an answer first, then the texts of its case."""

    suite_sha256: Digest
    case: CaseId
    texts: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=32)]


@dataclass(frozen=True, slots=True)
class Named:
    """A model as it answered; with the adapter that its alias lays over it."""

    id: str
    sha256: str
    adapter: str = ""
    adapter_sha256: str = ""


class Reply(msgspec.Struct, frozen=True):
    """What came of a question: an answer, or what kept it back."""

    model: Named
    text: str = ""
    refused: bool = False  # by the appliance's own rules
    error: str = ""  # a code: this question has no answer, and would have none again
    finish_reason: str = ""
    record: str = ""  # of the opening

    def __repr__(self) -> str:
        """Without the answer's words."""
        return f"Reply({self.model.id}, {self.finish_reason or self.error or 'refused'}, {self.record})"


class Embedded(msgspec.Struct, frozen=True):
    """A vector of length 1 for each text, float32, little-endian."""

    model: Named
    vectors: tuple[bytes, ...]


class Answering(Protocol):
    """Puts questions, on the record. Unavailable where that is not possible right now."""

    async def ask(self, model: str, question: Question) -> Reply:
        """One answer."""
        ...

    async def embed(self, model: str, texts: Texts) -> Embedded:
        """What texts mean, as vectors."""
        ...
