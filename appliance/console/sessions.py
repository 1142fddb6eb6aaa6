"""Sessions: who is logged in, until they leave, fall silent, or are let in no more.

A session lives in this process only. What the browser holds is 256 random bits; here stands their SHA-256,
so that nothing that is read out of this memory logs anybody in. Each beginning and end is on the record.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.accounts.accounts import Account
from appliance.audit.entry import Entry, done_by, person_of
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.recipients import Identity
from appliance.clock import Clock
from appliance.core import Caller, Principal
from appliance.errors import AuditUnavailable
from appliance.hosting import forget
from appliance.log import get_logger
from appliance.why import Why

SWEEP_SECONDS: Final = 5.0
MAX_OF_ONE_ACCOUNT: Final = 3
MAX_KEPT: Final = 50

log = get_logger(__name__)


@dataclass(slots=True)
class Session:
    """One person at one browser. Owner of every field: the event loop's thread."""

    digest: bytes = field(repr=False)  # of what the browser holds
    principal: Principal
    credential: str = field(repr=False)  # what was kept of the passphrase at the log-in
    must_change: bool
    opened_us: int  # monotonic, as `seen_us`
    seen_us: int
    since_us: int = 0  # wall clock: when it was opened, for people
    caller: Caller = field(default=Caller(""), repr=False)  # from where
    factor_us: int | None = None  # since when the account has had the second factor that it has now
    must_enrol: bool = False  # no page but the one that sets up a second factor
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    # Unlocked for this session, and forgotten with it: who reads here. Two where the policy says 2-of-n.
    identities: list[Identity] = field(default_factory=list, repr=False)
    notice: str = ""  # said once, on the next page
    is_warning: bool = False  # the notice is none to be glad of
    why: Why | None = None  # why this person reads, once they have said it
    _kept: OrderedDict[str, Any] = field(default_factory=OrderedDict, repr=False)

    def keep(self, value: Any) -> str:
        """Keep something between pages (a search, a draft) that must not stand in an address; its name."""
        name = secrets.token_urlsafe(9)
        self._kept[name] = value
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return name

    def kept(self, name: str) -> Any | None:
        """What was kept under a name, while it is."""
        return self._kept.get(name)

    def drop(self, kind: type) -> None:
        """Forget what was kept of one type: contents, once the identity that opened them is locked."""
        for name in [name for name, value in self._kept.items() if isinstance(value, kind)]:
            del self._kept[name]

    def lock(self) -> None:
        """Forget the identities that were unlocked."""
        for each in self.identities:
            forget(each)
        self.identities.clear()

    def take_notice(self) -> str:
        """The notice, once."""
        notice, self.notice, self.is_warning = self.notice, "", False
        return notice


class Sessions:
    """Owner of `_open`: the event loop's thread."""

    def __init__(
        self,
        audit: AuditLog,
        clock: Clock,
        active: Callable[[str], Account | None],
        *,
        idle_seconds: int,
        max_seconds: int,
        factor_since: Callable[[str], int | None] = lambda _account: None,
    ) -> None:
        self._audit = audit
        self._clock = clock
        self._active = active
        self._factor_since = factor_since
        self._idle_us = idle_seconds * 1_000_000
        self._max_us = max_seconds * 1_000_000
        self._open: dict[bytes, Session] = {}
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to end those that are over."""
        self._sweeper = asyncio.create_task(self._sweep_for_ever())

    async def stop(self) -> None:
        """End all of them."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for each in list(self._open.values()):
            await self._end(each, "stopped")

    async def open(self, known: Account, caller: Caller, *, must_enrol: bool = False) -> tuple[str, Session]:
        """A session of this account, on the record before the browser hears of it; what the browser holds."""
        token = secrets.token_urlsafe(32)
        now_us = self._clock.monotonic_us()
        opened = Session(
            _digest(token),
            known.principal,
            known.passphrase,
            known.must_change,
            now_us,
            now_us,
            since_us=self._clock.now_us(),
            caller=caller,
            factor_us=self._factor_since(known.id),
            must_enrol=must_enrol,
        )
        await self._audit.append(
            Entry(
                kind=Kind.SESSION_OPENED,
                public={"role": str(known.role)},
                content={
                    "principal": person_of(known.principal),
                    "caller": caller.told(),
                },
                actor=known.id,
            )
        )
        self._open[opened.digest] = opened
        for each in self.of(known.id)[:-MAX_OF_ONE_ACCOUNT]:
            await self._end(each, "replaced")
        return token, opened

    async def find(self, token: str, *, is_seen: bool = True) -> Session | None:
        """The session behind what a browser sent, and that it was seen; None where there is none any more."""
        found = self._open.get(_digest(token)) if token else None
        if found is None:
            return None
        if reason := self._over(found):
            await self._end(found, reason)
            return None
        if is_seen:
            found.seen_us = self._clock.monotonic_us()
        return found

    def of(self, account_id: str) -> list[Session]:
        """The open sessions of an account, oldest first."""
        own = [each for each in self._open.values() if each.principal.key_id == account_id]
        return [each for each in own if not self._over(each)]

    async def close(self, session: Session) -> None:
        """The person leaves."""
        await self._end(session, "logout")

    async def end_others(self, session: Session) -> int:
        """The person leaves wherever else they are logged in; how many sessions that were."""
        others = [each for each in self.of(session.principal.key_id) if each is not session]
        for each in others:
            await self._end(each, "elsewhere")
        return len(others)

    async def end_all(self, account_id: str, *, by: Principal) -> int:
        """An admin shows somebody out; how many sessions that were."""
        found = self.of(account_id)
        for each in found:
            await self._end(each, "admin", by)
        return len(found)

    def keep_factor(self, session: Session) -> None:
        """The person has set up another second factor in this session: it goes on, their others end."""
        session.factor_us = self._factor_since(session.principal.key_id)
        session.must_enrol = False

    def ends_in_seconds(self, session: Session) -> int:
        """Until it ends if nothing is done."""
        now_us = self._clock.monotonic_us()
        ends_us = min(session.seen_us + self._idle_us, session.opened_us + self._max_us)
        return max(0, (ends_us - now_us) // 1_000_000)

    def _over(self, session: Session) -> str:
        now_us = self._clock.monotonic_us()
        known = self._active(session.principal.key_id)
        if known is None:
            return "disabled"
        if known.passphrase != session.credential:
            return "passphrase"  # it was changed or reset: whoever knew the old one is out
        if self._factor_since(known.id) != session.factor_us:
            return "second_factor"
        if now_us - session.opened_us >= self._max_us:
            return "expired"
        return "idle" if now_us - session.seen_us >= self._idle_us else ""

    async def _end(self, session: Session, reason: str, by: Principal | None = None) -> None:
        if self._open.pop(session.digest, None) is None:
            return
        session.lock()
        session.drop(object)
        try:
            await self._audit.append(
                Entry(
                    kind=Kind.SESSION_CLOSED,
                    public={"role": str(session.principal.role), "reason": reason},
                    content={"principal": person_of(session.principal), **done_by(by)},
                    actor=session.principal.key_id,
                )
            )
        except AuditUnavailable:
            # Nobody stays logged in because the log is latched; /readyz tells why this has no entry.
            log.warning("session_end_unrecorded", reason=reason)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for each in list(self._open.values()):
                if reason := self._over(each):
                    await self._end(each, reason)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
