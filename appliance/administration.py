"""What operators change: every act and its audit record are one transaction.

The same code runs inside the gateway (reached over the control socket) and inside the `appliance`
program while no gateway runs; both own the log's lock when they do.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance import db
from appliance.accounts import grants, keys, tables
from appliance.accounts.directory import Directory, check_name
from appliance.accounts.duties import Duties
from appliance.accounts.keys import ApiKey, NewKey
from appliance.accounts.roles import Permission, allows
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.core import Principal, Receipt, Role
from appliance.errors import RequestError
from appliance.verification import Verifications

MAX_LIFETIME_SECONDS = 100 * 366 * 86_400  # beyond it the microseconds leave what canonical JSON takes


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, the ones that it replaced, and where that stands on the record."""

    new: NewKey = field(repr=False)
    replaced: tuple[str, ...]
    receipt: Receipt


class Administration:
    """Changes keys, and puts acts of this host's program on the record."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        directory: Directory,
        clock: Clock,
        load_keys: Callable[[], list[ApiKey]],
        verifications: Verifications,
        duties: Duties,
        on_recovery: Callable[[], None],
    ) -> None:
        self.verifications = verifications
        self._audit = audit
        self._directory = directory
        self._clock = clock
        self._load_keys = load_keys
        self._duties = duties
        self._on_recovery = on_recovery
        self._changing = asyncio.Lock()  # what was looked up must still hold when it is committed

    async def create_key(
        self,
        name: str,
        role: Role,
        *,
        expires_seconds: int | None = None,
        replace: bool = False,
        stores_responses: bool = False,
        by: Principal | None = None,
    ) -> Made:
        """A fresh key; with `replace`, the active ones of the same name are revoked after it."""
        async with self._changing, self._duties.giving:
            return await self._create_key(
                name, role, expires_seconds, replace=replace, stores_responses=stores_responses, by=by
            )

    async def _create_key(
        self,
        name: str,
        role: Role,
        expires_seconds: int | None,
        *,
        replace: bool,
        stores_responses: bool,
        by: Principal | None,
    ) -> Made:
        now_us = self._clock.now_us()
        earlier = self._directory.active_named(check_name(name), now_us=now_us)
        if earlier and not replace:
            raise RequestError(
                "an active key with this name exists",
                code="key_exists",
                param="name",
                hint="revoke it first, or pass --replace",
            )
        self._duties.require(name, role)
        if expires_seconds is not None and not 1 <= expires_seconds <= MAX_LIFETIME_SECONDS:
            raise RequestError("a key expires within a century, in the future", code="invalid_expiry")
        if stores_responses and not allows(role, Permission.INFER):
            raise RequestError(
                "only a key that asks questions can store their answers",
                code="invalid_grant",
                param="store_responses",
            )
        expires_us = now_us + expires_seconds * 1_000_000 if expires_seconds else None
        made = keys.generate(
            name, role, now_us=now_us, expires_us=expires_us, stores_responses=stores_responses
        )
        receipt = await self._store(Kind.KEY_CREATED, made.key, by)
        if stores_responses:
            await self._grant(made.key, now_us, by)
        for key in earlier:
            await self._revoke_key(key.id, by)
        return Made(new=made, replaced=tuple(key.id for key in earlier), receipt=receipt)

    async def revoke_key(self, name_or_id: str, *, by: Principal | None = None) -> tuple[ApiKey, Receipt]:
        """Revoke one key, by id or unambiguous name; in force with the commit."""
        async with self._changing:
            return await self._revoke_key(name_or_id, by)

    async def recover(self) -> None:
        """Open a latched log again, and learn what was committed while its callers were told otherwise."""
        async with self._changing:
            await asyncio.to_thread(self._audit.recover)
            self._directory.replace(self._load_keys())
            self._on_recovery()

    async def _revoke_key(self, name_or_id: str, by: Principal | None) -> tuple[ApiKey, Receipt]:
        now_us = self._clock.now_us()
        key = self._directory.find(name_or_id, now_us=now_us)
        if key.revoked_us is not None:
            raise RequestError("this key is revoked already", code="key_revoked")
        revoked = tables.revoked(key, now_us=now_us)
        return revoked, await self._store(Kind.KEY_REVOKED, revoked, by)

    def list_keys(self) -> list[ApiKey]:
        """All keys, oldest first, without their secrets."""
        return self._directory.all()

    async def _grant(self, key: ApiKey, now_us: int, by: Principal | None) -> None:
        """Put what a key may do beyond its role on the record, with its row."""
        row = grants.row_of(key.id, now_us=now_us)
        await self._audit.append(
            entry.state_changed(
                Kind.KEY_GRANTED,
                table=grants.TABLE,
                row_id=key.id,
                row=row,
                public={"may": grants.STORE_RESPONSES},
                content={"name": key.name},
                effects=lambda connection, _seq: db.put_row(connection, grants.key_grant, row),
                by=by,
            )
        )
        self._directory.put(key)  # after the commit: what is not on the record allows nothing

    async def _store(self, kind: Kind, key: ApiKey, by: Principal | None) -> Receipt:
        row = tables.row_of(key)
        receipt = await self._audit.append(
            entry.state_changed(
                kind,
                table=tables.TABLE,
                row_id=key.id,
                row=row,
                public={"role": str(key.role)},
                content={"name": key.name, "expires_us": key.expires_us},
                effects=lambda connection, _seq: db.put_row(connection, tables.api_key, row),
                by=by,
            )
        )
        # After the commit: a key that is not on the record opens nothing. So with its grant.
        granted = key.stores_responses and kind is not Kind.KEY_CREATED
        self._directory.put(dataclasses.replace(key, stores_responses=granted))
        return receipt
