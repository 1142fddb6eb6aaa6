"""Hosted identities: an auditor's key pair lies here only under its owner's passphrase.

Every act and its row are one transaction, and an unlocking is on the record before the identity is handed
out. The slow work runs outside the event loop, one at a time: many guesses at once cost no more memory than
one. An unlocked identity lives in the returned object and nowhere else; whoever holds it calls `forget` at
the end of the session. What CPython copied in between (the passphrase's own string, what a library keeps
until it frees it) nobody can wipe: that is the price of this way to read, and the other way is an
identity kept off the box.
"""

from __future__ import annotations

import asyncio

from appliance import db
from appliance.accounts import hosted, passphrases, vault
from appliance.accounts.hosted import HostedIdentity
from appliance.audit import entry, profiles
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.policy import MemberRole
from appliance.audit.recipients import Identity, parse_recipient
from appliance.audit.sealing import wipe
from appliance.clock import Clock
from appliance.config import CryptoProfile
from appliance.core import Caller, Receipt, Role
from appliance.db import Place
from appliance.errors import Refused, RequestError, VerificationError

_MEMBERS = {Role.AUDITOR: MemberRole.AUDITOR, Role.PRIVACY: MemberRole.PRIVACY}
_HERE = Caller("")  # this host's own program


class Hosted:
    """Stores, unlocks and removes. Owner of `_changing`: a row that was read must still be the row."""

    def __init__(self, *, audit: AuditLog, database: Place, clock: Clock, crypto: CryptoProfile) -> None:
        self._audit = audit
        self._database = database
        self._clock = clock
        self._crypto = crypto
        self._changing = asyncio.Lock()

    def held(self, account: str) -> HostedIdentity | None:
        """What an account has here, sealed; None where it has nothing."""
        with db.reading(self._database) as connection:
            return hosted.find(connection, account)

    async def store(
        self, account: str, role: Role, identity: Identity, passphrase: str, caller: Caller = _HERE
    ) -> Receipt:
        """Keep an identity for an account, under its owner's passphrase.

        RequestError where the passphrase is weak or the account has one already; Refused where the key
        policy in force has no such member of this role.
        """
        vault.checked_passphrase(passphrase, self._crypto)
        self._require_member(identity, role)
        async with self._changing:
            if await asyncio.to_thread(self.held, account) is not None:
                raise RequestError(
                    "this account has a hosted identity already",
                    code="identity_exists",
                    hint="remove it first",
                )
            return await self._seal(account, identity, passphrase, caller)

    async def unlock(self, account: str, role: Role, passphrase: str, caller: Caller = _HERE) -> Identity:
        """The identity, for one session. RequestError where there is none.

        Refused with `wrong_passphrase`, on the record and counted; with `identity_locked` while it waits
        after too many of them, whatever the passphrase; with `not_a_member` where the policy has changed.
        """
        async with self._changing:
            return await self._unlock(account, role, passphrase, caller)

    async def change_passphrase(
        self, account: str, role: Role, old: str, new: str, caller: Caller = _HERE
    ) -> Receipt:
        """Seal under another passphrase. As `unlock` for the old one, as `store` for the new one."""
        vault.checked_passphrase(new, self._crypto)
        async with self._changing:
            identity = await self._unlock(account, role, old, caller)
            try:
                return await self._seal(account, identity, new, caller)
            finally:
                forget(identity)

    async def remove(self, account: str, caller: Caller = _HERE) -> Receipt:
        """Nothing of it is left here but the row that says so. RequestError where there is none.

        Backups of the database from before hold the sealed row for as long as they are kept.
        """
        async with self._changing:
            found = await asyncio.to_thread(self._find, account)
            return await self._put(Kind.IDENTITY_REMOVED, found.removed(self._clock.now_us()), caller)

    def _find(self, account: str) -> HostedIdentity:
        found = self.held(account)
        if found is None:
            raise RequestError("this account has no hosted identity", code="identity_not_found")
        return found

    async def _seal(self, account: str, identity: Identity, passphrase: str, caller: Caller) -> Receipt:
        sealed = await asyncio.to_thread(
            vault.seal,
            identity.seed,
            passphrase,
            kdf=vault.kdf_of(self._crypto),
            bound=account.encode(),
        )
        made = HostedIdentity(account, identity.recipient.text(), sealed, self._clock.now_us())
        return await self._put(Kind.IDENTITY_HOSTED, made, caller)

    async def _unlock(self, account: str, role: Role, passphrase: str, caller: Caller) -> Identity:
        found = await asyncio.to_thread(self._find, account)
        now_us = self._clock.now_us()
        if now_us < found.locked_until_us:
            raise Refused(
                "too many wrong passphrases: this identity is locked for now",
                code="identity_locked",
                hint=f"it opens again in {-(-(found.locked_until_us - now_us) // 60_000_000)} minutes",
            )
        if not vault.MIN_CHARACTERS["standard"] <= len(passphrase) <= passphrases.MAX_CHARACTERS:
            seed = None  # never stored: not worth the work, and as wrong as any other
        else:
            seed = await asyncio.to_thread(vault.open_, found.vault, passphrase, bound=found.account.encode())
        if seed is None:
            await self._put(Kind.IDENTITY_REFUSED, found.failed(now_us), caller)
            raise Refused("this is not the passphrase", code="wrong_passphrase")
        recipient = parse_recipient(found.recipient)
        identity = Identity(recipient.name, seed, recipient.algorithms)
        try:
            if identity.recipient != recipient:
                raise VerificationError("the hosted identity is not the one that its row names")
            self._require_member(identity, role)
            await self._put(Kind.IDENTITY_UNLOCKED, found.unlocked(), caller)
        except BaseException:
            forget(identity)
            raise
        return identity

    async def _put(self, kind: Kind, changed: HostedIdentity, caller: Caller) -> Receipt:
        row = changed.row()
        return await self._audit.append(
            entry.state_changed(
                kind,
                table=hosted.TABLE,
                row_id=changed.account,
                row=row,
                public={"failures": changed.failures},
                content={
                    "recipient": parse_recipient(changed.recipient).fingerprint,
                    "caller": caller.told(),
                },
                effects=lambda connection, _seq: db.put_row(connection, hosted.hosted_identity, row),
            )
        )

    def _require_member(self, identity: Identity, role: Role) -> None:
        recipient = identity.recipient
        profiles.check_recipients(self._crypto, [recipient])
        fits = any(
            each.recipient.fingerprint == recipient.fingerprint and each.role is _MEMBERS.get(role)
            for each in self._audit.policy.members
        )
        if not fits:
            raise Refused(
                "the key policy in force has no such member of this role",
                code="not_a_member",
                hint="appliance auditor list",
            )


def forget(identity: Identity) -> None:
    """Overwrite an unlocked identity's seed. It opens nothing afterwards: nobody else may hold it still."""
    wipe(identity.seed)
