"""What the scheduler asks of the library between two batches, in the order given. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Free:
    """The library forgets everything under this id."""

    seq_id: int


@dataclass(frozen=True, slots=True)
class Copy:
    """The first `length` cells of one id belong to another id too; nothing is moved."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Spill:
    """A leaf goes to the host's memory, under the name `handle`, and its id is freed."""

    tag: int
    length: int
    handle: int


@dataclass(frozen=True, slots=True)
class Restore:
    """A spilled leaf comes back into fresh cells of `seq_id`; of its tokens the first `length` stay."""

    handle: int
    seq_id: int
    length: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Bytes in the host's memory that nobody will want again."""

    handle: int


Action = Free | Copy | Spill | Restore | Forget
