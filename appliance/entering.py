"""The entrance: who gets in by which proof, what is counted, and how long somebody waits.

One form, one answer: name, passphrase and code are looked at together, and whatever was wrong, the words are
the same and come at the next whole half second, so that neither tells which. Wrong tries count by name and by
address. Each try under an account's name is an entry with the account's row (`accounts/entrances.py`): a
restart hands out no fresh tries, and a code that was used is used for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from appliance import db
from appliance.accounts import codes, entrances, passphrases
from appliance.accounts.accounts import Account, Register
from appliance.accounts.duties import Duties
from appliance.accounts.entrances import Entrance
from appliance.accounts.lockout import Addresses, Locked, Lockout
from appliance.audit import entry
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.config import CryptoProfile, Home
from appliance.core import Caller, Principal, Receipt, Role
from appliance.errors import Refused, Unavailable

MAX_WAITING: Final = 20  # tries at a time: each takes some hundred milliseconds, one after the other
_ANSWER_US: Final = 500_000  # a wrong try is told at a whole multiple of it


@dataclass(frozen=True, slots=True)
class Entered:
    """Somebody who was let in. `before` is what the entrance knew until then, for them to see."""

    account: Account
    before: Entrance = field(repr=False)
    now: Entrance = field(repr=False)


class Entering:
    """Owner of `_known` and of what is counted: the event loop that runs it."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        register: Register,
        clock: Clock,
        crypto: CryptoProfile,
        duties: Duties,
        home: Home,
        required: Collection[str],
        load: Callable[[], list[Entrance]],
    ) -> None:
        self.home = home
        self._audit = audit
        self._register = register
        self._clock = clock
        self._fips = crypto == "fips"
        self._duties = duties
        self._required = frozenset(Role(each) for each in required)
        self._load = load
        self._known: dict[str, Entrance] = {}
        self._lockout = Lockout()
        self._addresses = Addresses()
        self.changing = asyncio.Lock()  # a row that was read must still be the row that is replaced
        # One try at a time: each takes 128 MiB, and a flood of tries must not take the machine's memory.
        self._trying = asyncio.Lock()
        self._num_waiting = 0
        self.relearn()

    def relearn(self) -> None:
        """Take over what the database holds: at the start, and after a recovery."""
        self._known = {each.account: each for each in self._load()}
        for each in self._known.values():
            known = self._register.get(each.account)
            if known is not None and known.is_active(self._clock.now_us()) and each.failures:
                self._lockout.restore(
                    known.name,
                    each.failures,
                    wait_us=each.locked_until_us - self._clock.now_us(),
                    now_us=self._clock.monotonic_us(),
                )

    def of(self, account_id: str) -> Entrance:
        """What the entrance knows of an account."""
        return self._known.get(account_id) or Entrance(account_id)

    def must_enrol(self, known: Account) -> bool:
        """Whether this person gets nowhere before they have set up a second factor."""
        mine = self.of(known.id)
        return mine.factor is None and (mine.must_enrol or known.role in self._required)

    def factor_since(self, account_id: str) -> int | None:
        """Since when an account has had the second factor that it has; None where it has none."""
        factor = self.of(account_id).factor
        return factor.enrolled_us if factor is not None else None

    def is_required(self, role: Role) -> bool:
        """Whether the configuration wants a second factor of this role."""
        return role in self._required

    def least_characters(self, known: Account) -> int:
        """Of a passphrase that this person chooses."""
        has_another = self.of(known.id).factor is not None or self.must_enrol(known)
        return passphrases.MIN_WITH_FACTOR if has_another else passphrases.MIN_ALONE

    async def log_in(self, name: str, passphrase: str, code: str, caller: Caller) -> Entered:
        """Who this is. Refused with one and the same message for every flaw; locked names wait.

        An account without a second factor needs no code, and what is typed as one is not looked at.
        """
        began_us = self._clock.monotonic_us()
        known = self._register.active_named(name, now_us=self._clock.now_us())
        async with self._one_try(name, caller):
            matches = await self.matches(passphrase, known.passphrase if known is not None else None)
            async with self.changing:
                self._require_unlocked(name)  # tries that ran beside this one count as well
                before = self.of(known.id) if known is not None else Entrance("")
                proved = self._proved(before, code, is_real=matches)
                if known is not None and matches and proved is not None:
                    # A role that was given before the policy or a witness had this name is none any more.
                    self._duties.require(known.name, known.role, but_account=known.name)
                    now = proved.entered(proved.factor, now_us=self._clock.now_us())
                    await self.store(
                        Kind.ACCOUNT_ENTERED,
                        known,
                        now,
                        {"proof": _proof(before, proved), "caller": _from(caller)},
                        by=known.principal,
                    )
                    self._lockout.succeeded(name)
                    self._addresses.give_back(caller.address)
                    return Entered(known, before, now)
                await self._failed(name, known, caller, with_passphrase=matches)
        await self._until_due(began_us)
        raise invalid_login()

    async def prove(self, known: Account, passphrase: str, code: str | None, caller: Caller) -> None:
        """That it is still this person who sits at an open session; `code` None: not asked for.

        Whoever sits down at somebody's session guesses no faster than at the entrance.
        """
        began_us = self._clock.monotonic_us()
        async with self._one_try(known.name, caller):
            matches = await self.matches(passphrase, known.passphrase)
            async with self.changing:
                self._require_unlocked(known.name)
                before = self.of(known.id)
                proved = before if code is None else self._proved(before, code, is_real=matches)
                if matches and proved is not None:
                    if proved != before:
                        told = {"change": f"{_proof(before, proved)} used", "caller": _from(caller)}
                        await self.store(Kind.ACCOUNT_SECOND_FACTOR, known, proved, told, by=known.principal)
                    self._lockout.succeeded(known.name)
                    self._addresses.give_back(caller.address)
                    return
                await self._failed(known.name, known, caller, with_passphrase=matches)
        await self._until_due(began_us)
        raise invalid_login()

    async def unlock(self, known: Account, by: Principal | None) -> None:
        """Somebody who was given another passphrase does not wait. The caller does not hold `changing`."""
        self._lockout.succeeded(known.name)
        async with self.changing:
            before = self.of(known.id)
            if before.failures:
                told = {"name": known.name, "change": "unlocked"}
                await self.store(Kind.ACCOUNT_CHANGED, known, before.unlocked(), told, by=by)

    async def store(
        self,
        kind: Kind,
        known: Account,
        changed: Entrance,
        content: Mapping[str, object],
        *,
        by: Principal | None,
    ) -> Receipt:
        """The row and its entry, in one transaction. The caller holds `changing`."""
        row = entrances.row_of(changed)
        written = entry.state_changed(
            kind,
            table=entrances.TABLE,
            row_id=changed.account,
            row=row,
            public={"role": str(known.role)},
            content=content,
            effects=lambda connection, _seq: db.put_row(connection, entrances.entrance, row),
            by=by,
        )
        if by is None and kind is Kind.ACCOUNT_REFUSED:
            written = dataclasses.replace(written, actor=known.id)  # about them, not by them
        receipt = await self._audit.append(written)
        self._known[changed.account] = changed  # after the commit: what is not on the record is not so
        return receipt

    async def matches(self, passphrase: str, kept: str | None) -> bool:
        """Whether it is the passphrase: slow, one at a time. None costs the same and is never it."""
        async with self._trying:
            return await asyncio.to_thread(passphrases.matches, passphrase, kept, fips=self._fips)

    async def kept(self, passphrase: str) -> str:
        """What is kept of a passphrase: slow, one at a time."""
        async with self._trying:
            return await asyncio.to_thread(passphrases.make, passphrase, fips=self._fips)

    def is_outdated(self, known: Account) -> bool:
        """Whether the passphrase was kept for less work than this release asks for."""
        return passphrases.is_outdated(known.passphrase, fips=self._fips)

    @contextlib.asynccontextmanager
    async def _one_try(self, name: str, caller: Caller) -> AsyncIterator[None]:
        """Refused where this name or address waits; Unavailable where too many are tried at once."""
        self._require_unlocked(name)
        if self._num_waiting >= MAX_WAITING:
            raise Unavailable(
                "too many people log in at this moment", code="overloaded", retry_after_seconds=5
            )
        wait_s = self._addresses.take(caller.address, now_us=self._clock.monotonic_us())
        if wait_s:
            raise Locked(
                f"too many wrong log-ins from this address; try again in {wait_s} seconds",
                code="address_locked",
                retry_after_seconds=wait_s,
            )
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1

    def _require_unlocked(self, name: str) -> None:
        wait_s = self._lockout.wait_seconds(name, now_us=self._clock.monotonic_us())
        if wait_s:
            raise Locked(
                f"too many wrong tries for this name; try again in {wait_s} seconds",
                code="account_locked",
                retry_after_seconds=wait_s,
            )

    def _proved(self, before: Entrance, code: str, *, is_real: bool) -> Entrance | None:
        """The row once this code was used; None where it is none. `is_real`: the passphrase was right.

        VerificationError where the factor does not open, told to nobody without the passphrase.
        """
        factor = before.factor
        if factor is None:
            return before
        if before.is_factor_locked or not is_real:
            return None
        seals = codes.seals_of(self.home)
        if codes.is_of_authenticator(code):
            secret = seals.open(factor.sealed, before.account, factor.algorithm)
            step = codes.matching_step(
                secret, factor.algorithm, code, now_us=self._clock.now_us(), after=factor.last_step
            )
            changed = None if step is None else dataclasses.replace(factor, last_step=step)
        else:
            left = seals.without(before.account, factor.recovery, code)
            changed = None if left is None else dataclasses.replace(factor, recovery=left)
        return None if changed is None else dataclasses.replace(before, factor=changed)

    async def _failed(
        self, name: str, known: Account | None, caller: Caller, *, with_passphrase: bool
    ) -> None:
        now_us = self._clock.monotonic_us()
        is_locked = self._lockout.failed(name, now_us=now_us)
        if known is None:
            return
        changed = self.of(known.id).failed(
            now_us=self._clock.now_us(),
            wait_seconds=self._lockout.wait_seconds(name, now_us=now_us),
            with_passphrase=with_passphrase,
        )
        told = {
            "principal": entry.person_of(known.principal),
            "flaw": "code" if with_passphrase else "passphrase",
            "caller": _from(caller),
        }
        await self.store(Kind.ACCOUNT_REFUSED, known, changed, told, by=None)
        if is_locked:
            await self._audit.append(_locked(known, caller))

    async def _until_due(self, began_us: int) -> None:
        """Sleep to the next whole half second since the try began."""
        passed_us = self._clock.monotonic_us() - began_us
        await asyncio.sleep(-passed_us % _ANSWER_US / 1e6)


def invalid_login() -> Refused:
    """One and the same for every flaw."""
    return Refused("the name, the passphrase or the code is not right", code="invalid_login")


def _proof(before: Entrance, proved: Entrance) -> str:
    """By what somebody got in, besides their passphrase."""
    was, now = before.factor, proved.factor
    if was is None or now is None:
        return "passphrase"
    return "authenticator" if now.last_step != was.last_step else "recovery code"


def _from(caller: Caller) -> dict[str, str]:
    return caller.told()


def _locked(known: Account, caller: Caller) -> Entry:
    return Entry(
        kind=Kind.ACCOUNT_LOCKED,
        public={"role": str(known.role)},
        content={"principal": entry.person_of(known.principal), "caller": _from(caller)},
        actor=known.id,
    )
