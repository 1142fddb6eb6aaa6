"""Which of two pools a request is computed in. Pure: no library, no clock, no I/O.

Two attention kernels, two contexts over the same weights. In the shared pool (plain attention) a room
that shares its prompt is answered quicker; apart (flash attention) a request that shares nothing, and
its long prompt most of all, since plain attention looks at every cell of the pool. Cells can not move
from one to the other: their layout is another one.

Numbered decision tree of `choose`:
1. a request that may need more cells than the pool apart has goes to the shared one, which holds the
   longest that the model takes
2. one whose first tokens its tenant has in a pool already, computed, being computed or waiting, goes
   where it finds more of them: nothing is computed twice. That holds apart, too: sharing works there
   as well, and a little slower costs less than reading again
3. a system message of some length is meant to come again: shared
4. everything else is apart

What other tenants have plays no part, but for what the operator declared shared.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from appliance.engine.worker.sequence import Sequence

# Below it finding a prefix decides nothing: many templates begin with a few words of their own.
MIN_ROUTED_TOKENS = 64


class Room(Protocol):
    """What is asked of a pool."""

    @property
    def n_ctx(self) -> int: ...

    def in_hand(self, sequence: Sequence) -> int:
        """How many of its first tokens its tenant has here."""
        ...


AnyRoom = TypeVar("AnyRoom", bound=Room)


def choose(sequence: Sequence, shared: AnyRoom, apart: AnyRoom) -> AnyRoom:
    """Where this request is computed, from its first token to its last."""
    if sequence.num_prompt + sequence.max_tokens > apart.n_ctx:  # 1
        return shared
    here, there = shared.in_hand(sequence), apart.in_hand(sequence)
    if max(here, there) >= MIN_ROUTED_TOKENS:  # 2
        return shared if here >= there else apart
    return shared if sequence.num_system >= MIN_ROUTED_TOKENS else apart  # 3, 4
