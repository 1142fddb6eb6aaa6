"""Custody of content: who may read it from now on, what is handed out, erased, held and removed.

Every act and its record are one transaction, or the record comes first. The same code runs inside the
gateway (reached over the control socket) and inside the `appliance` program while no gateway runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance import backups, db
from appliance.accounts.directory import Directory
from appliance.accounts.duties import Duties
from appliance.accounts.stored import ResponseStore
from appliance.audit import blind, ceremonies, holds, profiles, retention, shares, store
from appliance.audit.entry import Entry
from appliance.audit.holds import Hold
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.policy import KeyPolicy
from appliance.audit.retention import Removal
from appliance.audit.shares import Share
from appliance.backups import BackedUp, Copied, ShareBackups
from appliance.clock import Clock
from appliance.config import CryptoProfile, Home
from appliance.core import Principal, Receipt, Role
from appliance.databases.base import Database
from appliance.errors import ApplianceError, RequestError, SetupError, Unavailable, VerificationError
from appliance.log import get_logger

_DAY_US = 86_400_000_000
_PERIODS_SECONDS = 6 * 3600

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Removed:
    """What one run of the retention removed, or would remove."""

    kind: Kind
    days: int
    num_contents: int


@dataclass(frozen=True, slots=True)
class Coming:
    """When the oldest content of a kind has had its time, microseconds UTC; None where there is none."""

    kind: Kind
    days: int
    next_us: int | None


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What an erasure would make unreadable, and what stands in its way."""

    num_shares: int
    num_records: int
    first_month: str  # "2026-11"; empty where there is nothing
    last_month: str
    holds: tuple[Hold, ...]  # in force, over any of it


class Custody:
    """Owner of `_changing`: what was looked up must still hold when it is committed."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        directory: Directory,
        home: Home,
        database: Database,
        clock: Clock,
        periods: dict[Kind, int],
        share_backup_days: int,
        crypto: CryptoProfile,
        duties: Duties,
        responses: ResponseStore,
    ) -> None:
        self._audit = audit
        self._responses = responses
        self._directory = directory
        self._home = home
        self._database = database
        self._clock = clock
        self._periods = periods
        self._crypto = crypto
        self._duties = duties
        self._share_backups = ShareBackups(audit, home, database, clock, share_backup_days)
        self._changing = asyncio.Lock()

    async def change_policy(self, note: str) -> tuple[KeyPolicy, Receipt]:
        """Put a key policy in force that a quorum of the one before has signed."""
        async with self._changing, self._duties.giving:
            changed = ceremonies.policy_changed(note, self._audit.policy, self._audit.origin)
            if changed.policy is not None:
                profiles.check_policy(self._crypto, changed.policy)
                for each in changed.policy.readers:
                    self._duties.require(each.name, Role.AUDITOR)
            receipt = await self._audit.append(changed)
            return self._audit.policy, receipt

    async def release(self, recorded: Entry, share_ids: list[str]) -> tuple[Receipt, dict[str, str]]:
        """Put a reading on the record, and only then hand out the shares that it needs."""
        receipt = await self._audit.append(recorded)
        wanted = [bytes.fromhex(each) for each in share_ids]
        found = await asyncio.to_thread(shares.release, self._home, wanted) if wanted else {}
        return receipt, {each.hex(): secret.hex() for each, secret in found.items()}

    def blinds(self, fields: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """The hash of this month's index key, and what stands for these fields under it, if there is one."""
        key = blind.existing_key(self._home, blind.month_of(self._clock.now_us()))
        if key is None:
            return "", {}
        return key.sha256, {name: key.blind(name, value).hex() for name, value in fields.items()}

    async def erase(self, note: str) -> tuple[int, Receipt]:
        """Destroy a subject's shares, as two members of the key policy have signed; how many there were.

        RequestError where a legal hold covers any of it, or where there is nothing.
        """
        async with self._changing:
            drafted = ceremonies.erasure_of(note, self._audit.policy, self._audit.origin)
            doomed = await asyncio.to_thread(self._doomed, drafted)
            # The copies go first, of every month: they live by hours, and a crash loses nothing else.
            await asyncio.to_thread(self._responses.erase, self._subjects(drafted))
            receipt = await self._audit.append(ceremonies.erased(drafted, doomed))
            try:
                await self._share_backups.expire()
            except (ApplianceError, OSError) as error:
                # The erasure stands: backups that it has overtaken go at the next of the daily looks.
                log.warning("share_backups_not_replaced", error=type(error).__name__)
            return len(doomed), receipt

    async def foresee(self, meant: ceremonies.Erasure) -> Foreseen:
        """What an erasure would destroy as things stand. Tells whether somebody is on the record: whoever
        shows it has put that on the record, by a search or by a drafted act.
        """
        return await asyncio.to_thread(self._foresee, meant)

    async def back_up(self, copied: Copied, *, by: Principal | None = None) -> BackedUp:
        """Record a copy of the database; make one of the shares, and the box file that goes with both."""
        async with self._changing:
            receipt = await self._audit.append(backups.backed_up(copied, by))
            shares_path = await self._share_backups.make()
            box = await backups.make_box(self._audit, self._home, self._clock, copied, shares_path)
            return BackedUp(receipt, shares_path, box, await self._share_backups.expire())

    async def expire_share_backups(self) -> int:
        """Remove backups of shares whose days are over; how many."""
        async with self._changing:
            return await self._share_backups.expire()

    async def hold(
        self,
        *,
        api_key: str,
        user: str,
        since_us: int,
        until_us: int | None,
        reason: str,
        by: Mapping[str, Any] | None = None,
    ) -> tuple[Hold, Receipt]:
        """Place a hold: from its commit on, nothing that it covers is erased or removed.

        `by` says who placed it, where this host's program did not.
        """
        if not reason.strip() or len(reason) > ceremonies.MAX_WORDS:
            raise RequestError("a hold gives its reason", code="invalid_hold", param="reason")
        if until_us is not None and until_us <= since_us:
            raise RequestError("a hold ends after its beginning", code="invalid_hold", param="until")
        async with self._changing:
            placed = holds.new(
                holds.key_of(self._home),
                api_key=api_key,
                user=user,
                since_us=since_us,
                until_us=until_us,
                placed_us=self._clock.now_us(),
            )
            said = {"key": api_key, "user": user, "reason": reason, **(by or {})}
            return placed, await self._audit.append(ceremonies.held(Kind.HOLD_PLACED, placed, said))

    async def lift_hold(self, note: str) -> tuple[Hold, Receipt]:
        """End a hold, as two members of the key policy have signed."""
        async with self._changing:
            hold_id, approvers = ceremonies.lifting_of(note, self._audit.policy, self._audit.origin)
            found = {each.id: each for each in self.holds() if each.is_active}.get(hold_id)
            if found is None:
                raise RequestError("no hold of this id is in force", code="hold_not_found")
            over = holds.lifted(found, now_us=self._clock.now_us())
            said = {"act": note, "approvers": [each.name for each in approvers]}
            return over, await self._audit.append(ceremonies.held(Kind.HOLD_LIFTED, over, said))

    def holds(self) -> list[Hold]:
        """Every hold ever placed, oldest first."""
        with db.reading(self._database) as connection:
            return holds.load(connection)

    async def expire_responses(self) -> None:
        """Remove stored responses that have had their time."""
        await asyncio.to_thread(self._responses.expire)

    async def retain(self, *, dry_run: bool = False) -> list[Removed]:
        """Remove the contents whose time is over and that nothing holds; what was removed, by kind."""
        removed = []
        for kind, days in self._periods.items():
            count, last = 0, 0
            while True:
                async with self._changing:
                    removal, going_on = await asyncio.to_thread(self._due, kind, days, last)
                    if removal is not None and not dry_run:
                        await self._audit.append(ceremonies.removed(removal))
                    count += len(removal.seqs) if removal is not None else 0
                if going_on is None:
                    break
                last = going_on
            removed.append(Removed(kind, days, count))
        return removed

    async def keep_periods(self) -> None:
        """Remove everything that has had its time: contents, backups of shares, stored responses.

        SetupError by a clock that was set elsewhere meanwhile: what it removes, no correction brings back.
        """
        if self._audit.times.steps.are_doubtful:
            raise SetupError("the clock was set while the appliance ran", code="clock_stepped")
        await self.retain()
        await self.expire_share_backups()
        await self.expire_responses()

    async def keep_periods_for_ever(self) -> None:
        """At the start, and then a few times a day."""
        while True:
            try:
                await self.keep_periods()
            except (Unavailable, SetupError, VerificationError) as error:
                log.warning("retention_not_applied", code=error.code)
            await asyncio.sleep(_PERIODS_SECONDS)

    async def coming(self) -> list[Coming]:
        """What the retention removes next, by kind; a hold may keep it all the same."""
        return await asyncio.to_thread(self._coming)

    def _coming(self) -> list[Coming]:
        with db.reading(self._database) as connection:
            oldest = {
                kind: store.contents_of(connection, kind, 0, self._clock.now_us(), 1)
                for kind in self._periods
            }
        return [
            Coming(kind, days, oldest[kind][0].ts + days * _DAY_US if oldest[kind] else None)
            for kind, days in self._periods.items()
        ]

    def _due(self, kind: Kind, days: int, after_ts: int) -> tuple[Removal | None, int | None]:
        """The next removal, and the moment to go on from; None where there is nothing (more)."""
        before = retention.cutoff(self._clock.now_us(), days)
        with db.reading(self._database) as connection:
            found = store.contents_of(connection, kind, after_ts, before, retention.MAX_REMOVED)
            active = [each for each in holds.load(connection) if each.is_active]
        due = retention.removable(found, active, self._held_shares(active) if found else ())
        going_on = found[-1].ts if len(found) == retention.MAX_REMOVED else None
        return retention.removal(kind, found, due) if due else None, going_on

    def _held_shares(self, active: list[Hold]) -> list[bytes]:
        named = [each for each in active if each.names_somebody]
        if not named:
            return []
        key = holds.key_of(self._home)
        return [
            share.id
            for share in shares.every(self._home)
            if any(
                hold.concerns(share.subject, key) and hold.overlaps(*holds.month_span(share.month))
                for hold in named
            )
        ]

    def _subjects(self, drafted: ceremonies.Erasure) -> list[str]:
        keys = [drafted.key] if drafted.key else [key.id for key in self._directory.all()]
        return [f"user:{key}:{drafted.user}" if drafted.user else f"key:{key}" for key in keys]

    def _meant(self, drafted: ceremonies.Erasure) -> list[Share]:
        found = shares.find(self._home, *self._subjects(drafted))
        return [each for each in found if drafted.covers(each.month)]

    def _covering(self, meant: list[Share]) -> list[Hold]:
        key = holds.key_of(self._home)
        return [
            hold
            for hold in self.holds()
            if hold.is_active
            and any(
                hold.concerns(each.subject, key) and hold.overlaps(*holds.month_span(each.month))
                for each in meant
            )
        ]

    def _foresee(self, drafted: ceremonies.Erasure) -> Foreseen:
        meant = self._meant(drafted)
        months = sorted(each.month for each in meant)
        with db.reading(self._database) as connection:
            num_records = store.num_sealed_with(connection, [each.id for each in meant])
        return Foreseen(
            num_shares=len(meant),
            num_records=num_records,
            first_month=months[0] if months else "",
            last_month=months[-1] if months else "",
            holds=tuple(self._covering(meant)),
        )

    def _doomed(self, drafted: ceremonies.Erasure) -> list[bytes]:
        doomed = self._meant(drafted)
        if not doomed:
            raise RequestError(
                "nothing of this subject is readable any more, or ever was",
                code="nothing_to_erase",
                hint="appliance key list shows keys' ids; users are spelled as their callers sent them",
            )
        for hold in self._covering(doomed):
            raise RequestError(
                f"legal hold {hold.id} covers this content",
                code="on_hold",
                hint="a hold is lifted by two members of the key policy: appliance audit hold lift",
            )
        return [each.id for each in doomed]
