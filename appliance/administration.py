"""What operators change: every act and its audit record are one transaction.

The same code runs inside the gateway (reached over the control socket) and inside the `appliance`
program while no gateway runs; both own the log's lock when they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.accounts import keys, tables
from appliance.accounts.directory import Directory, check_name
from appliance.accounts.keys import ApiKey, NewKey
from appliance.audit import entry
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.core import Receipt, Role
from appliance.errors import RequestError


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, the ones that it replaced, and where that stands on the record."""

    new: NewKey = field(repr=False)
    replaced: tuple[str, ...]
    receipt: Receipt


class Administration:
    """Changes keys, and puts acts of this host's program on the record."""

    def __init__(self, *, audit: AuditLog, directory: Directory, clock: Clock) -> None:
        self._audit = audit
        self._directory = directory
        self._clock = clock

    async def create_key(
        self, name: str, role: Role, *, expires_seconds: int | None = None, replace: bool = False
    ) -> Made:
        """A fresh key; with `replace`, the active ones of the same name are revoked after it."""
        now_us = self._clock.now_us()
        earlier = self._directory.active_named(check_name(name), now_us=now_us)
        if earlier and not replace:
            raise RequestError(
                "an active key with this name exists",
                code="key_exists",
                param="name",
                hint="revoke it first, or pass --replace",
            )
        if expires_seconds is not None and expires_seconds < 1:
            raise RequestError("a key can not expire in the past", code="invalid_expiry")
        expires_us = now_us + expires_seconds * 1_000_000 if expires_seconds else None
        made = keys.generate(name, role, now_us=now_us, expires_us=expires_us)
        receipt = await self._store(entry.Kind.KEY_CREATED, made.key)
        for key in earlier:
            await self.revoke_key(key.id)
        return Made(new=made, replaced=tuple(key.id for key in earlier), receipt=receipt)

    async def revoke_key(self, name_or_id: str) -> tuple[ApiKey, Receipt]:
        """Revoke one key, by id or unambiguous name; in force with the commit."""
        now_us = self._clock.now_us()
        key = self._directory.find(name_or_id, now_us=now_us)
        if key.revoked_us is not None:
            raise RequestError("this key is revoked already", code="key_revoked")
        revoked = tables.revoked(key, now_us=now_us)
        return revoked, await self._store(entry.Kind.KEY_REVOKED, revoked)

    def list_keys(self) -> list[ApiKey]:
        """All keys, oldest first, without their secrets."""
        return self._directory.all()

    async def _store(self, kind: entry.Kind, key: ApiKey) -> Receipt:
        row = tables.row_of(key)
        receipt = await self._audit.append(
            entry.state_changed(
                kind,
                table=tables.TABLE,
                row_id=key.id,
                row=row,
                public={"role": str(key.role)},
                content={"name": key.name, "expires_us": key.expires_us},
                effects=lambda connection: tables.put(connection, row),
            )
        )
        self._directory.put(key)  # after the commit: a key that is not on the record opens nothing
        return receipt
