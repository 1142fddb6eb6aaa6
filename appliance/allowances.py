"""`[limits]` of appliance.toml: what each key of a role may have. A part of `config`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from appliance import terms

Count = Annotated[int, Meta(ge=0, le=10**12)]  # 0: no such limit
Priority = Annotated[int, Meta(ge=0, le=9)]


class RoleLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much each key of a role may have, where it has no number of its own. 0: no such limit."""

    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    concurrency: Count = 0
    requests_per_day: Count = 0
    tokens_per_day: Count = 0
    priority: Priority = 0

    @property
    def terms(self) -> terms.Limits:
        """In the words of a key's own terms, where None is no limit."""
        return terms.Limits(
            requests_per_minute=self.requests_per_minute or None,
            tokens_per_minute=self.tokens_per_minute or None,
            concurrency=self.concurrency or None,
            requests_per_day=self.requests_per_day or None,
            tokens_per_day=self.tokens_per_day or None,
            priority=self.priority,
        )


class KioskLimits(RoleLimits, frozen=True, forbid_unknown_fields=True):
    """A lobby's screen, or a program that people wait for."""

    requests_per_minute: Count = 1200
    concurrency: Count = 64
    priority: Priority = 6


class DeveloperLimits(RoleLimits, frozen=True, forbid_unknown_fields=True):
    """A program that somebody writes, or that works through a pile at night."""

    requests_per_minute: Count = 600
    concurrency: Count = 32
    priority: Priority = 3


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a request may wait for its turn, and the limits of each role that may ask the model."""

    max_wait_seconds: Annotated[int, Meta(ge=1, le=600)] = 60
    kiosk: KioskLimits = msgspec.field(default_factory=KioskLimits)
    developer: DeveloperLimits = msgspec.field(default_factory=DeveloperLimits)
