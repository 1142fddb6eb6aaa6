"""Memory in messages: what the library took, and what its devices have."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_Bytes = Annotated[int, Meta(ge=0, lt=1 << 53)]
_Place = Annotated[str, Meta(max_length=300)]


class Buffer(msgspec.Struct, frozen=True):
    """Memory that the library took: whose (`CPU_Mapped`, `CUDA0`, …), and what for (`model`, `kv`, …)."""

    place: _Place
    kind: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$")]
    bytes: _Bytes


class Memory(msgspec.Struct, frozen=True):
    """A device's, before anything was loaded onto it."""

    name: _Place
    free_bytes: _Bytes
    total_bytes: _Bytes
