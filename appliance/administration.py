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
from appliance.accounts import grants, keys, tables, terms_form, terms_rows
from appliance.accounts.directory import Directory, check_name
from appliance.accounts.documents import Library
from appliance.accounts.duties import Duties
from appliance.accounts.keys import ApiKey, NewKey
from appliance.accounts.roles import Permission, allows
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.catalog import Catalog
from appliance.clock import Clock
from appliance.core import Genre, Principal, Receipt, Role
from appliance.errors import RequestError
from appliance.terms import Capture, Terms
from appliance.verification import Verifications

MAX_LIFETIME_SECONDS = 100 * 366 * 86_400  # beyond it the microseconds leave what canonical JSON takes
MAX_OVERLAP_SECONDS = 90 * 86_400

# What a key's terms say of its questions; where it is used and by whom concerns every key.
_EVERYBODYS = frozenset({"addresses", "certificates"})


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, the ones that it replaces, and where that stands on the record."""

    new: NewKey = field(repr=False)
    replaced: tuple[str, ...]
    receipt: Receipt
    until_us: int | None = None  # when those end; None: they have ended


@dataclass(frozen=True, slots=True)
class Changed:
    """The keys that have other terms from now on, and the last of the records that say so."""

    keys: tuple[ApiKey, ...]
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
        catalog: Callable[[], Catalog],
        documents: Library,
        verifications: Verifications,
        duties: Duties,
        on_recovery: Callable[[], None],
    ) -> None:
        self.verifications = verifications
        self._audit = audit
        self._directory = directory
        self._clock = clock
        self._load_keys = load_keys
        self._catalog = catalog
        self._documents = documents
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
        terms: Terms = Terms(),  # noqa: B008 - frozen
        by: Principal | None = None,
    ) -> Made:
        """A fresh key; with `replace`, the active ones of the same name are revoked after it."""
        async with self._changing, self._duties.giving:
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
            self._require_sensible(name, role, terms, stores_responses=stores_responses)
            made = keys.generate(
                name,
                role,
                now_us=now_us,
                expires_us=_end(now_us, expires_seconds),
                stores_responses=stores_responses,
                terms=terms,
            )
            receipt = await self._issue(made.key, now_us, by)
            for key in earlier:
                await self._revoke(key, by)
            return Made(new=made, replaced=tuple(key.id for key in earlier), receipt=receipt)

    async def rotate_key(
        self,
        name_or_id: str,
        *,
        overlap_seconds: int,
        expires_seconds: int | None = None,
        by: Principal | None = None,
    ) -> Made:
        """A fresh key with the name, role, grants and terms of one that ends when the overlap is over.

        Without `expires_seconds` it lives as long as the other was to. An overlap of 0 revokes the other at
        once. RequestError while an earlier rotation still overlaps: at most two keys stand for one name.
        """
        async with self._changing, self._duties.giving:
            now_us = self._clock.now_us()
            old = self._directory.in_force(name_or_id, now_us=now_us)[0]
            if len(self._directory.active_named(old.name, now_us=now_us)) > 1:
                raise RequestError(
                    "two keys of this name are in force: the rotation before is not over",
                    code="key_rotating",
                    hint="wait for the end of its overlap, or revoke one of the two by its id",
                )
            if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
                raise RequestError(
                    "two keys overlap for at most 90 days", code="invalid_overlap", param="overlap"
                )
            self._duties.require(old.name, old.role)
            if expires_seconds is None and old.expires_us is not None:
                expires_seconds = max(1, (old.expires_us - old.created_us) // 1_000_000)
            made = keys.generate(
                old.name,
                old.role,
                now_us=now_us,
                expires_us=_end(now_us, expires_seconds),
                stores_responses=old.stores_responses,
                terms=old.terms,
            )
            receipt = await self._issue(made.key, now_us, by)
            if overlap_seconds == 0:
                await self._revoke(old, by)
                return Made(new=made, replaced=(old.id,), receipt=receipt)
            ending = tables.ending(old, at_us=now_us + overlap_seconds * 1_000_000)
            await self._record_key(Kind.KEY_ROTATED, ending, by, {"new_key": made.key.id})
            self._directory.put(ending)
            return Made(new=made, replaced=(old.id,), receipt=receipt, until_us=ending.expires_us)

    async def change_key(
        self, name_or_id: str, change: Terms | Callable[[Terms], Terms], *, by: Principal | None = None
    ) -> Changed:
        """Other terms for the key of this id, or for all in force under this name: a rotation overlaps.

        They hold for requests that begin behind the commit. RequestError where nothing would change.
        """
        async with self._changing:
            now_us = self._clock.now_us()
            found = self._directory.in_force(name_or_id, now_us=now_us)
            wanted = [(key, change(key.terms) if callable(change) else change) for key in found]
            for key, terms in wanted:
                self._require_sensible(
                    key.name, key.role, terms, stores_responses=key.stores_responses, before=key.terms
                )
            changed = [dataclasses.replace(key, terms=terms) for key, terms in wanted if terms != key.terms]
            receipt = None
            for key in changed:
                receipt = await self._record_terms(key, now_us, by)
                self._directory.put(key)
            if receipt is None:
                raise RequestError("the key has these terms already", code="nothing_to_change")
            return Changed(tuple(changed), receipt)

    async def revoke_key(self, name_or_id: str, *, by: Principal | None = None) -> tuple[ApiKey, Receipt]:
        """Revoke one key, by id or unambiguous name; in force with the commit."""
        async with self._changing:
            key = self._directory.find(name_or_id, now_us=self._clock.now_us())
            if key.revoked_us is not None:
                raise RequestError("this key is revoked already", code="key_revoked")
            return await self._revoke(key, by)

    async def recover(self) -> None:
        """Open a latched log again, and learn what was committed while its callers were told otherwise."""
        async with self._changing:
            await asyncio.to_thread(self._audit.recover)
            self._directory.replace(self._load_keys())
            self._on_recovery()

    def list_keys(self) -> list[ApiKey]:
        """All keys, oldest first, without their secrets."""
        return self._directory.all()

    def _require_sensible(
        self,
        name: str,
        role: Role,
        terms: Terms,
        *,
        stores_responses: bool,
        before: Terms = Terms(),  # noqa: B008 - frozen
    ) -> None:
        """RequestError for role, grant and terms that do not go together, and for terms that name nothing.

        `before`: the terms until now, whose models and documents may have been taken away since.
        """
        _require_together(role, terms, stores_responses=stores_responses)
        self._require_document(Genre.PROMPT, terms.prompt, before.prompt)
        self._require_document(Genre.GUARDRAILS, terms.guardrails, before.guardrails)
        added = set(terms.models) - set(before.models)
        if added:
            catalog = self._catalog()
            if not all(catalog.resolve(each) for each in added):
                raise RequestError(
                    "the catalogue knows no model of this name",
                    code="model_not_found",
                    param="models",
                    hint="appliance model list shows ids and aliases",
                )
        now_us = self._clock.now_us()
        held = {
            each
            for key in self._directory.all()
            if key.name != name and key.is_active(now_us)
            for each in key.terms.certificates
        }
        if held & set(terms.certificates):
            raise RequestError(
                "this certificate stands for a key of another name",
                code="certificate_taken",
                param="certificates",
            )

    def _require_document(self, genre: Genre, wanted: str, before: str) -> None:
        if wanted and wanted != before and self._documents.find(genre, wanted) is None:
            program = "prompt" if genre is Genre.PROMPT else "policy"
            raise RequestError(
                "nothing of this name and version is in force",
                code="document_not_found",
                param=str(genre),
                hint=f"appliance {program} list shows what there is, appliance {program} publish adds to it",
            )

    async def _issue(self, key: ApiKey, now_us: int, by: Principal | None) -> Receipt:
        """Every row of a new key, and only then the key itself: it is never known without its terms.

        A crash in between leaves a key whose secret nobody was shown.
        """
        receipt = await self._record_key(Kind.KEY_CREATED, key, by)
        if key.stores_responses:
            await self._record_grant(key, now_us, by)
        if key.terms != Terms():
            await self._record_terms(key, now_us, by)
        self._directory.put(key)
        return receipt

    async def _revoke(self, key: ApiKey, by: Principal | None) -> tuple[ApiKey, Receipt]:
        revoked = tables.revoked(key, now_us=self._clock.now_us())
        receipt = await self._record_key(Kind.KEY_REVOKED, revoked, by)
        self._directory.put(revoked)
        return revoked, receipt

    async def _record_key(
        self, kind: Kind, key: ApiKey, by: Principal | None, more: dict[str, str] | None = None
    ) -> Receipt:
        row = tables.row_of(key)
        return await self._audit.append(
            entry.state_changed(
                kind,
                table=tables.TABLE,
                row_id=key.id,
                row=row,
                public={"role": str(key.role)},
                content={"name": key.name, "expires_us": key.expires_us, **(more or {})},
                effects=lambda connection, _seq: db.put_row(connection, tables.api_key, row),
                by=by,
            )
        )

    async def _record_grant(self, key: ApiKey, now_us: int, by: Principal | None) -> Receipt:
        row = grants.row_of(key.id, now_us=now_us)
        return await self._audit.append(
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

    async def _record_terms(self, key: ApiKey, now_us: int, by: Principal | None) -> Receipt:
        row = terms_rows.row_of(key.id, key.terms, now_us=now_us)
        return await self._audit.append(
            entry.state_changed(
                Kind.KEY_CHANGED,
                table=terms_rows.TABLE,
                row_id=key.id,
                row=row,
                public={"role": str(key.role), "capture": str(key.terms.capture)},
                content={"name": key.name, "terms": terms_form.plain(key.terms)},
                effects=lambda connection, _seq: db.put_row(connection, terms_rows.key_terms, row),
                by=by,
            )
        )


def _require_together(role: Role, terms: Terms, *, stores_responses: bool) -> None:
    """RequestError for terms and a grant that a key of this role does not keep."""
    asks = allows(role, Permission.INFER)
    if stores_responses and not asks:
        raise RequestError(
            "only a key that asks questions can store their answers",
            code="invalid_grant",
            param="store_responses",
        )
    idle = [each for each in terms_form.plain(terms) if each not in _EVERYBODYS]
    if idle and not asks:
        raise RequestError(
            "this term is about questions, and a key of this role asks none",
            code="invalid_terms",
            param=idle[0],
        )
    if stores_responses and terms.capture is Capture.METADATA:
        raise RequestError(
            "a key whose words are not kept can have no responses stored",
            code="invalid_terms",
            param="capture",
        )


def _end(now_us: int, expires_seconds: int | None) -> int | None:
    """When a key ends. RequestError for a life that is none."""
    if expires_seconds is None:
        return None
    if not 1 <= expires_seconds <= MAX_LIFETIME_SECONDS:
        raise RequestError("a key expires within a century, in the future", code="invalid_expiry")
    return now_us + expires_seconds * 1_000_000
