"""People: their accounts, and how they get in. Every change is one transaction with its record.

The same code runs inside the gateway (reached over the control socket) and inside the `appliance` program
while no gateway runs; only the gateway's console lets anybody in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance import db
from appliance.accounts import accounts, passphrases
from appliance.accounts.accounts import PEOPLE, Account, Register
from appliance.accounts.directory import check_name
from appliance.accounts.duties import Duties
from appliance.accounts.lockout import Lockout
from appliance.administration import MAX_LIFETIME_SECONDS
from appliance.audit import entry
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.config import CryptoProfile
from appliance.core import Caller, Principal, Receipt, Role
from appliance.errors import Refused, RequestError


@dataclass(frozen=True, slots=True)
class MadeAccount:
    """A new account or passphrase: the only time that the passphrase exists outside a person's head."""

    account: Account
    passphrase: str = field(repr=False)
    receipt: Receipt


class People:
    """Owner of `_register` and `_lockout`: the event loop that runs it."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        register: Register,
        clock: Clock,
        crypto: CryptoProfile,
        duties: Duties,
        load: Callable[[], list[Account]],
    ) -> None:
        self._audit = audit
        self._register = register
        self._clock = clock
        self._fips = crypto == "fips"
        self._duties = duties
        self._load = load
        self._lockout = Lockout()
        self._changing = asyncio.Lock()  # what was looked up must still hold when it is committed
        # One try at a time: each takes 128 MiB, and a flood of tries must not take the machine's memory.
        self._trying = asyncio.Lock()

    def list(self) -> list[Account]:
        """All accounts, oldest first."""
        return self._register.all()

    def active(self, account_id: str) -> Account | None:
        """The account of this id, while it is in force."""
        found = self._register.get(account_id)
        return found if found is not None and found.is_active(self._clock.now_us()) else None

    def relearn(self) -> None:
        """Take over what the database holds, after a recovery."""
        self._register.replace(self._load())

    async def create(
        self,
        name: str,
        role: Role,
        *,
        expires_seconds: int | None = None,
        replace: bool = False,
        by: Principal | None = None,
    ) -> MadeAccount:
        """A new person, with a passphrase for the first log-in. RequestError on a conflict of duties."""
        if role not in PEOPLE:
            raise RequestError(
                "a person does not have this role; programs do: appliance key create",
                code="invalid_role",
                param="role",
            )
        if expires_seconds is not None and not 1 <= expires_seconds <= MAX_LIFETIME_SECONDS:
            raise RequestError("an account expires within a century, in the future", code="invalid_expiry")
        check_name(name)
        words = passphrases.one_time()
        kept = await self._kept(words)  # slow: not while others wait to give a role
        async with self._changing, self._duties.giving:
            now_us = self._clock.now_us()
            earlier = self._register.active_named(name, now_us=now_us)
            if earlier is not None and not replace:
                raise RequestError(
                    "an account with this name exists",
                    code="account_exists",
                    param="name",
                    hint="appliance account reset gives it a new passphrase",
                )
            self._duties.require(name, role, but_account=earlier.name if earlier is not None else "")
            if earlier is not None:
                gone = accounts.disabled(earlier, now_us=now_us)
                await self._store(gone, Kind.ACCOUNT_CHANGED, "replaced", by)
            expires_us = now_us + expires_seconds * 1_000_000 if expires_seconds else None
            made = accounts.new(name, role, kept, now_us=now_us, expires_us=expires_us)
            return MadeAccount(made, words, await self._store(made, Kind.ACCOUNT_CREATED, "created", by))

    async def reset(self, name_or_id: str, *, by: Principal | None = None) -> MadeAccount:
        """Another one-time passphrase for somebody who lost theirs."""
        async with self._changing:
            known = self._register.find(name_or_id, now_us=self._clock.now_us())
            words = passphrases.one_time()
            changed = accounts.with_passphrase(known, await self._kept(words), must_change=True)
            receipt = await self._store(changed, Kind.ACCOUNT_CHANGED, "passphrase reset", by)
            self._lockout.succeeded(known.name)
            return MadeAccount(changed, words, receipt)

    async def disable(self, name_or_id: str, *, by: Principal | None = None) -> tuple[Account, Receipt]:
        """Let somebody in no more; in force with the commit, for open sessions too."""
        async with self._changing:
            now_us = self._clock.now_us()
            known = accounts.disabled(self._register.find(name_or_id, now_us=now_us), now_us=now_us)
            return known, await self._store(known, Kind.ACCOUNT_CHANGED, "disabled", by)

    async def change_passphrase(self, account_id: str, caller: Caller, *, current: str, new: str) -> Account:
        """The person's own choice. Refused where the current one is wrong."""
        passphrases.check_new(new)
        async with self._changing:
            known = self._register.find(account_id, now_us=self._clock.now_us())
            # Whoever sits down at somebody's open session guesses no faster than at the entrance.
            self._require_unlocked(known.name)
            if not await self._matches(current, known.passphrase):
                await self._failed(known.name, known, caller)
                raise _invalid_login()
            self._lockout.succeeded(known.name)
            if current == new:
                raise RequestError("the new passphrase is the old one", code="invalid_passphrase")
            changed = accounts.with_passphrase(known, await self._kept(new), must_change=False)
            await self._store(changed, Kind.ACCOUNT_CHANGED, "passphrase changed", known.principal)
            return changed

    async def log_in(self, name: str, passphrase: str, caller: Caller) -> Account:
        """Who this is. Refused with one and the same message for every flaw; locked names wait."""
        self._require_unlocked(name)
        known = self._register.active_named(name, now_us=self._clock.now_us())
        matches = await self._matches(passphrase, known.passphrase if known is not None else None)
        self._require_unlocked(name)  # tries that ran beside this one count as well
        if known is None or not matches:
            await self._failed(name, known, caller)
            raise _invalid_login()
        # A role that was given before the policy or a witness had this name is none any more.
        self._duties.require(known.name, known.role, but_account=known.name)
        self._lockout.succeeded(name)
        return known

    def _require_unlocked(self, name: str) -> None:
        wait_s = self._lockout.wait_seconds(name, now_us=self._clock.monotonic_us())
        if wait_s:
            raise Refused(
                f"too many wrong passphrases for this name; try again in {wait_s} seconds",
                code="account_locked",
            )

    async def _failed(self, name: str, known: Account | None, caller: Caller) -> None:
        if self._lockout.failed(name, now_us=self._clock.monotonic_us()) and known is not None:
            await self._audit.append(_locked(known, caller))

    async def _matches(self, passphrase: str, kept: str | None) -> bool:
        async with self._trying:
            return await asyncio.to_thread(passphrases.matches, passphrase, kept, fips=self._fips)

    async def _kept(self, passphrase: str) -> str:
        async with self._trying:
            return await asyncio.to_thread(passphrases.make, passphrase, fips=self._fips)

    async def _store(self, known: Account, kind: Kind, change: str, by: Principal | None) -> Receipt:
        row = accounts.row_of(known)
        receipt = await self._audit.append(
            entry.state_changed(
                kind,
                table=accounts.TABLE,
                row_id=known.id,
                row=row,
                public={"role": str(known.role)},
                content={"name": known.name, "change": change, "expires_us": known.expires_us},
                effects=lambda connection, _seq: db.put_row(connection, accounts.account, row),
                by=by,
            )
        )
        self._register.put(known)  # after the commit: a change that is not on the record is none
        return receipt


def _invalid_login() -> Refused:
    return Refused("the name or the passphrase is not right", code="invalid_login")


def _locked(known: Account, caller: Caller) -> Entry:
    return Entry(
        kind=Kind.ACCOUNT_LOCKED,
        public={"role": str(known.role)},
        content={
            "principal": entry.person_of(known.principal),
            "caller": {"address": caller.address, "user_agent": caller.user_agent},
        },
        actor=known.id,
    )
