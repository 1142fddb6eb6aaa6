"""People: their accounts, and how they get in. Every change is one transaction with its record.

The same code runs inside the gateway (reached over the control socket) and inside the `appliance` program
while no gateway runs; only the gateway's console lets anybody in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

from appliance import db
from appliance.accounts import accounts, entrances, guessable, passphrases
from appliance.accounts.accounts import Account, Register
from appliance.accounts.directory import check_name
from appliance.accounts.duties import Duties
from appliance.accounts.entrances import Entrance
from appliance.administration import MAX_LIFETIME_SECONDS
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.config import Home, Settings
from appliance.core import PEOPLE, Caller, Principal, Receipt, Role
from appliance.databases.base import Database
from appliance.entering import Entered, Entering
from appliance.errors import Refused, RequestError
from appliance.second_factors import SecondFactors

AT_HOST: Final = Caller("", "the program on the host")
_ROLES_HINT: Final = "appliance account list shows everybody's role"


@dataclass(frozen=True, slots=True)
class MadeAccount:
    """A new account or passphrase: the only time that the passphrase exists outside a person's head."""

    account: Account
    passphrase: str = field(repr=False)
    receipt: Receipt


class People:
    """Owner of `_register`: the event loop that runs it."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        register: Register,
        clock: Clock,
        duties: Duties,
        load: Callable[[], list[Account]],
        entering: Entering,
        factors: SecondFactors,
    ) -> None:
        self.entering = entering
        self.factors = factors
        self._audit = audit
        self._register = register
        self._clock = clock
        self._duties = duties
        self._load = load
        self._changing = asyncio.Lock()  # what was looked up must still hold when it is committed

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
        self.entering.relearn()

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
        kept = await self.entering.kept(words)  # slow: not while others wait to give a role
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
                await self.factors.remove(gone, by=by)
            expires_us = now_us + expires_seconds * 1_000_000 if expires_seconds else None
            made = accounts.new(name, role, kept, now_us=now_us, expires_us=expires_us)
            return MadeAccount(made, words, await self._store(made, Kind.ACCOUNT_CREATED, "created", by))

    async def reset(self, name_or_id: str, *, by: Principal | None = None) -> MadeAccount:
        """Another one-time passphrase for somebody who lost theirs."""
        async with self._changing:
            known = self._register.find(name_or_id, now_us=self._clock.now_us())
            words = passphrases.one_time()
            changed = accounts.with_passphrase(known, await self.entering.kept(words), must_change=True)
            receipt = await self._store(changed, Kind.ACCOUNT_CHANGED, "passphrase reset", by)
            await self.entering.unlock(changed, by)
            return MadeAccount(changed, words, receipt)

    async def disable(self, name_or_id: str, *, by: Principal | None = None) -> tuple[Account, Receipt]:
        """Let somebody in no more; in force with the commit, for open sessions too.

        What was kept of a second factor goes behind it: a crash in between leaves it with an account that
        nobody enters.
        """
        async with self._changing:
            now_us = self._clock.now_us()
            known = accounts.disabled(self._register.find(name_or_id, now_us=now_us), now_us=now_us)
            receipt = await self._store(known, Kind.ACCOUNT_CHANGED, "disabled", by)
            await self.factors.remove(known, by=by)
            return known, receipt

    async def change_passphrase(self, account_id: str, caller: Caller, *, current: str, new: str) -> Account:
        """The person's own choice. Refused where the current one is wrong."""
        known = self._register.find(account_id, now_us=self._clock.now_us())
        passphrases.check_new(new, least=self.entering.least_characters(known))
        guessable.require_unlikely(new, name=known.name)
        async with self._changing:
            known = self._register.find(account_id, now_us=self._clock.now_us())
            await self.entering.prove(known, current, None, caller)
            if current == new:
                raise RequestError("the new passphrase is the old one", code="invalid_passphrase")
            changed = accounts.with_passphrase(known, await self.entering.kept(new), must_change=False)
            await self._store(changed, Kind.ACCOUNT_CHANGED, "passphrase changed", known.principal)
            return changed

    async def vouched(
        self, name_or_id: str, passphrase: str, code: str, roles: Collection[Role]
    ) -> Principal:
        """Who stands up for an act at the host's program, by a passphrase, and a code where they have one.

        Refused where it is not theirs, where their role may not, and where somebody else chose it.
        """
        known = self._register.find(name_or_id, now_us=self._clock.now_us())
        if known.role not in roles:
            raise Refused(f"the account's role is {known.role}: it may not do this", hint=_ROLES_HINT)
        if known.must_change or self.entering.must_enrol(known):
            raise Refused(
                "this account is not set up yet", code="account_not_ready", hint="log in to the console once"
            )
        await self.entering.prove(known, passphrase, code, AT_HOST)
        return known.principal

    async def log_in(self, name: str, passphrase: str, caller: Caller, *, code: str = "") -> Entered:
        """Who this is. Refused with one and the same message for every flaw; locked names wait."""
        entered = await self.entering.log_in(name, passphrase, code, caller)
        if not self.entering.is_outdated(entered.account):
            return entered
        async with self._changing:  # kept for more work from now on: nobody can do it without the passphrase
            known = self._register.find(entered.account.id, now_us=self._clock.now_us())
            if known.passphrase == entered.account.passphrase:
                kept = await self.entering.kept(passphrase)
                known = accounts.with_passphrase(known, kept, must_change=known.must_change)
                await self._store(known, Kind.ACCOUNT_CHANGED, "passphrase kept anew", known.principal)
        return replace(entered, account=known)

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


def load_accounts(database: Database) -> list[Account]:
    """Every account as the database holds it."""
    with db.reading(database) as connection:
        return accounts.load(connection)


def steward_of_people(
    audit: AuditLog,
    register: Register,
    *,
    clock: Clock,
    settings: Settings,
    home: Home,
    database: Database,
    duties: Duties,
) -> People:
    """`People` with its entrance and second factors, over what the database holds."""

    def load_entrances() -> list[Entrance]:
        with db.reading(database) as connection:
            return entrances.load(connection)

    crypto = settings.crypto.profile
    entering = Entering(
        audit=audit,
        register=register,
        clock=clock,
        crypto=crypto,
        duties=duties,
        home=home,
        required=settings.console.second_factor,
        load=load_entrances,
    )
    return People(
        audit=audit,
        register=register,
        clock=clock,
        duties=duties,
        load=lambda: load_accounts(database),
        entering=entering,
        factors=SecondFactors(
            entering=entering, register=register, clock=clock, crypto=crypto, issuer=settings.audit.origin
        ),
    )
