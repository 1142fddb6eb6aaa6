"""Exchanges that are kept for callers who ask again under the same idempotency key.

The header is that of draft-ietf-httpapi-idempotency-key-header. In two points we answer otherwise: a retry
beside the running request is given its answer instead of a conflict, and another request under a key that
is known is 409, as 422 is nobody's here. Kept in memory only: behind a restart every key is new.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from appliance.clock import Clock
from appliance.errors import RequestError
from appliance.exchange import Exchange

MAX_ENTRIES = 10_000  # a hundred kiosks, each asking every six seconds, for ten minutes
MAX_BYTES = 64 * 1024 * 1024  # about what the keys of ten minutes may take of the gateway's memory
_SWEEP_SECONDS = 10
_BODY_FACTOR = 4  # a question in Python's objects against its bytes on the wire


@dataclass(frozen=True, slots=True)
class Scope:
    """Within which a key names a request: nobody meets the keys of somebody else, nor of another route."""

    key_id: str  # the API key's
    route: str
    name: str = field(repr=False)  # the idempotency key, which may say something about a person


@dataclass(frozen=True, slots=True)
class _Kept:
    digest: bytes  # of the request's body
    num_body_bytes: int
    exchange: Exchange

    @property
    def num_bytes(self) -> int:
        return _BODY_FACTOR * self.num_body_bytes + self.exchange.num_bytes


class Retries:
    """Owner of what is kept: the event loop's thread.

    A running exchange stays, and a finished one for `keep_seconds` behind its end; over the bounds the
    oldest finished ones go. A failed one is forgotten: asked again, it runs again.
    """

    def __init__(
        self, *, keep_seconds: float, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._keep_us = int(keep_seconds * 1_000_000)
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._kept: dict[Scope, _Kept] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, scope: Scope, digest: bytes, *, now_us: int) -> Exchange | None:
        """The exchange that this request began earlier; None where there is none, or none any more.

        RequestError where the key was given to another request.
        """
        kept = self._kept.get(scope)
        if kept is None or self._is_over(kept, now_us):
            return None
        if kept.digest != digest:
            raise RequestError(
                "this idempotency key was used for another request",
                code="idempotency_conflict",
                hint="a new request takes a new key",
            )
        return kept.exchange

    def keep(
        self, scope: Scope, digest: bytes, exchange: Exchange, *, num_body_bytes: int, now_us: int
    ) -> None:
        """Remember an exchange that has just begun."""
        self._kept.pop(scope, None)  # a failed one: the new one is the youngest
        self._kept[scope] = _Kept(digest, num_body_bytes, exchange)
        self.sweep(now_us=now_us)

    def sweep(self, *, now_us: int) -> None:
        """Forget what has had its time or has failed, and the oldest finished ones over the bounds."""
        for scope in [scope for scope, kept in self._kept.items() if self._is_over(kept, now_us)]:
            del self._kept[scope]
        num_bytes = sum(kept.num_bytes for kept in self._kept.values())
        finished = iter([scope for scope, kept in self._kept.items() if kept.exchange.closed_us is not None])
        while len(self._kept) > self._max_entries or num_bytes > self._max_bytes:
            if (oldest := next(finished, None)) is None:
                return  # what runs stays: admission bounds it
            num_bytes -= self._kept.pop(oldest).num_bytes

    async def forget_for_ever(self, clock: Clock) -> None:
        """What callers were told stays in memory no longer than it may, also where nobody asks."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.sweep(now_us=clock.monotonic_us())

    def _is_over(self, kept: _Kept, now_us: int) -> bool:
        closed_us = kept.exchange.closed_us
        return kept.exchange.has_failed or (closed_us is not None and now_us - closed_us > self._keep_us)
