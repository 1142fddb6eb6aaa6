"""What is said to the process in which a file from outside is tried: one question, and its one answer.

The process is thrown away after its answer; that it gives none is an answer too.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from appliance.engine.messages import Code, Label, Number

MAX_NOTES = 20


class _Message(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """Base: messages are immutable and tagged by their class name."""


class Inspect(_Message, frozen=True):
    """Load these files as a worker would, and try what came with them. Answered by Sound or Objection.

    `folder` holds everything that may be read. An adapter is laid over the model at `path`.
    """

    folder: str
    path: str
    purpose: Literal["chat", "embedding", "rerank", "adapter"]
    files: tuple[str, ...]  # the paths of what was offered: every tensor of theirs is looked at
    adapter: str = ""  # its path; empty: there is none
    templates: tuple[tuple[str, str], ...] = ()  # (its key in the header, its text)
    num_tokens: int = 0  # of the vocabulary, as the header says; 0: not asked
    memory_bytes: int = 0  # that it may take beside the files themselves
    cpu_seconds: int = 60
    sandbox: Literal["required", "available"] = "available"


class Sound(_Message, frozen=True):
    """Nothing speaks against it. `notes`: what a person may want to look at."""

    n_params: Number
    description: Label
    notes: Annotated[tuple[Label, ...], Meta(max_length=MAX_NOTES)] = ()
    sandbox: tuple[Code, ...] = ()  # the layers that held


class Objection(_Message, frozen=True):
    """Why it is not taken."""

    code: Code
    reason: Annotated[str, Meta(max_length=1000)]


FromTrial = Sound | Objection
