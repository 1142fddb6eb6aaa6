"""Second factors: set up by their owner, taken away by an admin, read by nobody. All on the record.

A secret is shown once and counts from the moment that a code of it was typed. What is kept opens with the
home's key only (`accounts/codes.py`).
"""

from __future__ import annotations

import asyncio
import dataclasses

from appliance.accounts import codes
from appliance.accounts.accounts import Account, Register
from appliance.accounts.codes import Offer, Seals
from appliance.accounts.entrances import Entrance, Factor
from appliance.audit.kinds import Kind
from appliance.clock import Clock
from appliance.config import CryptoProfile
from appliance.core import Caller, Principal, Receipt
from appliance.entering import Entering
from appliance.errors import RequestError


class SecondFactors:
    """Set up, renew, take away. Rows belong to `Entering`."""

    def __init__(
        self, *, entering: Entering, register: Register, clock: Clock, crypto: CryptoProfile, issuer: str
    ) -> None:
        self._entering = entering
        self._register = register
        self._clock = clock
        self._crypto = crypto
        self._issuer = issuer

    def offer(self, known: Account) -> Offer:
        """A secret to be shown once; nothing is kept of it here."""
        return codes.offer(known.id, known.name, profile=self._crypto, issuer=self._issuer)

    async def confirm(self, known: Account, offered: Offer, code: str, caller: Caller) -> tuple[str, ...]:
        """In force, with fresh recovery codes, once a code of it was typed. RequestError for another code."""
        now_us = self._clock.now_us()
        step = codes.matching_step(offered.secret, offered.algorithm, code, now_us=now_us, after=0)
        if step is None or offered.account != known.id:
            raise RequestError(
                "this is not the code that the authenticator shows now",
                code="invalid_code",
                param="code",
                hint="a wrong code mostly comes from a clock: the phone's and this host's must agree to the "
                "minute; some programs know no SHA-256",
            )
        seals = await self._seals()
        fresh = codes.recovery()
        factor = Factor(
            algorithm=offered.algorithm,
            sealed=seals.seal(offered.secret, known.id, offered.algorithm),
            recovery=seals.digests(known.id, fresh),
            enrolled_us=now_us,
            last_step=step,
        )
        async with self._entering.changing:
            before = self._entering.of(known.id)
            change = "set up" if before.factor is None else "replaced"
            await self._store(known, before.with_factor(factor), change, known.principal, caller)
        return fresh

    async def renew(self, known: Account, caller: Caller) -> tuple[str, ...]:
        """Ten fresh recovery codes; the earlier ones open nothing any more. RequestError without a factor."""
        fresh = codes.recovery()
        marks = (await self._seals()).digests(known.id, fresh)
        async with self._entering.changing:
            before = self._entering.of(known.id)
            if before.factor is None:
                raise RequestError("this account has no second factor", code="no_second_factor")
            changed = before.with_factor(dataclasses.replace(before.factor, recovery=marks))
            await self._store(known, changed, "recovery codes renewed", known.principal, caller)
        return fresh

    async def reset(self, name_or_id: str, *, by: Principal | None = None) -> tuple[Account, Receipt]:
        """Take it away: the person sets up another one at the next log-in. RequestError without a factor."""
        known = self._register.find(name_or_id, now_us=self._clock.now_us())
        async with self._entering.changing:
            before = self._entering.of(known.id)
            if before.factor is None:
                raise RequestError(
                    "this account has no second factor",
                    code="no_second_factor",
                    hint="appliance account list",
                )
            changed = before.without_factor(must_enrol=True)
            return known, await self._store(known, changed, "reset", by)

    async def remove(self, known: Account, *, by: Principal | None) -> None:
        """Nothing is left of it: the account is over."""
        async with self._entering.changing:
            before = self._entering.of(known.id)
            if before.factor is not None:
                await self._store(known, before.without_factor(must_enrol=False), "removed", by)

    async def _store(
        self,
        known: Account,
        changed: Entrance,
        change: str,
        by: Principal | None,
        caller: Caller | None = None,
    ) -> Receipt:
        told: dict[str, object] = {"name": known.name, "change": change}
        if caller is not None:
            told["caller"] = caller.told()
        return await self._entering.store(Kind.ACCOUNT_SECOND_FACTOR, known, changed, told, by=by)

    async def _seals(self) -> Seals:
        return await asyncio.to_thread(codes.seals_of, self._entering.home, make=True)
