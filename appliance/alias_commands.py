"""Commands that move aliases: a part of `commands`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(max_length=100)]
Reason = Annotated[str, Meta(max_length=1000)]


class _Message(msgspec.Struct, frozen=True, tag=True, tag_field="kind", forbid_unknown_fields=True):
    """Base of these commands, in the form of `commands`."""


class Vouched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account that stands up for an act, with what proves that it is theirs."""

    account: Annotated[str, Meta(max_length=64)]
    passphrase: Annotated[str, Meta(max_length=4096)]
    code: Annotated[str, Meta(max_length=100)] = ""

    def __repr__(self) -> str:
        """Without the proof."""
        return f"Vouched({self.account!r})"


class ActivateAlias(_Message, frozen=True):
    """`appliance model activate`."""

    model: Name
    alias: Name
    why: Reason
    adapter: Name = ""
    scale: float = 1.0
    allow_gap: bool = False
    override: bool = False
    by: Vouched | None = None


class RollBackAlias(_Message, frozen=True):
    """`appliance model rollback`."""

    alias: Name
    why: Reason
    allow_gap: bool = False
    by: Vouched | None = None


class PinAlias(_Message, frozen=True):
    """`appliance model alias pin`, `appliance model alias unpin`."""

    alias: Name
    pinned: bool
    why: Reason
    by: Vouched | None = None


class RemoveAlias(_Message, frozen=True):
    """`appliance model alias remove`."""

    alias: Name
    why: Reason
    by: Vouched | None = None


class ListAliases(_Message, frozen=True):
    """`appliance model alias list`."""


AliasCommand = ActivateAlias | RollBackAlias | PinAlias | RemoveAlias | ListAliases
