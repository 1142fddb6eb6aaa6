"""Models are imported, refused and removed; each act and its record are one transaction."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance import db
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.catalog import Catalog
from appliance.clock import Clock
from appliance.commands import ImportModel, ListModels, ModelCommand, RefuseModel, RemoveModel
from appliance.config import Home, Settings
from appliance.core import ModelSpec, Principal, Receipt, Role
from appliance.databases.base import Database
from appliance.errors import RequestError
from appliance.models import specs, tables
from appliance.models.cards import ONE
from appliance.models.register import Register, State
from appliance.models.tables import Alias, Evaluation, Imported
from appliance.policy.activation import Scored, newest

PROGRAM: Final = "program"  # who imported, where this host's own program did
MAY_ACCEPT: Final = (Role.OPERATOR, Role.ADMIN)  # a licence that binds the agency


class Modelling:
    """Changes models, and teaches the catalogue what is known of them.

    Owner of `_changing`: what was looked up must still hold when it is committed.
    """

    def __init__(
        self,
        *,
        audit: AuditLog,
        database: Database,
        home: Home,
        catalog: Catalog,
        clock: Clock,
    ) -> None:
        self.catalog = catalog
        self.register = Register()
        self._audit = audit
        self._database = database
        self._home = home
        self._clock = clock
        self._changing = asyncio.Lock()
        self.relearn()

    def relearn(self) -> None:
        """Take over what the database holds: at the start, and when the log was opened again."""
        with db.reading(self._database) as connection:
            self.register = Register.read(connection)
        teach(self.catalog, self.register, self._home)

    async def import_model(
        self, offered: Imported, *, accepted_by: Principal | None = None, by: Principal | None = None
    ) -> tuple[Imported, Receipt]:
        """A model whose files lie in the store and were checked is known from the commit on.

        `accepted_by`: the account that accepts its licence. RequestError where the id is taken.
        """
        async with self._changing:
            self._require_free(offered)
            now_us = self._clock.now_us()
            known = dataclasses.replace(
                offered,
                accepted_by=accepted_by.key_id if accepted_by is not None else None,
                accepted_us=now_us if accepted_by is not None else None,
                imported_us=now_us,
                imported_by=by.key_id if by is not None else PROGRAM,
            )
            public: dict[str, str | int] = {"purpose": str(known.purpose), "num_parts": len(known.parts)}
            content = tables.plain(known) | {
                "accepted_by": accepted_by.name if accepted_by is not None else None
            }
            return known, await self._store(Kind.MODEL_IMPORTED, known, public, content, by)

    async def refuse(self, command: RefuseModel) -> Receipt:
        """A file that was offered and not taken goes on the record."""
        return await self._audit.append(
            entry.Entry(
                kind=Kind.MODEL_REFUSED,
                public={"code": command.code, "model_sha256": command.sha256},
                content={"reason": command.reason, "file": command.file, "origin": command.origin},
                actor=PROGRAM,
            )
        )

    async def remove_model(
        self, model_id: str, *, why: str, by: Principal | None = None
    ) -> tuple[Imported, Receipt]:
        """A model that no alias stands for is known no more; its row stays. The caller deletes the files."""
        async with self._changing:
            found = self.register.model(model_id)
            if found is None or found.removed_us is not None:
                raise RequestError(
                    "no imported model has this id",
                    code="model_not_found",
                    hint="appliance model list shows them; the release's own models come and go with it",
                )
            needed = self.register.aliases_of(model_id)
            if needed:
                raise RequestError(
                    f"the alias {needed[0].name} stands for this model",
                    code="model_in_use",
                    hint="let the alias stand for another model first",
                )
            gone = dataclasses.replace(found, removed_us=self._clock.now_us())
            return gone, await self._store(Kind.MODEL_REMOVED, gone, {}, {"why": why}, by)

    def _require_free(self, offered: Imported) -> None:
        """RequestError where the id means something else: on the record it means one file for ever."""
        earlier = self.register.model(offered.id)
        if earlier is not None and earlier.sha256 != offered.sha256:
            problem = "this id stands on the record for another file"
        elif self.catalog.find(offered.id) is not None:
            problem = "a model of this id is known already"
        elif self.catalog.resolve(offered.id) is not None:
            problem = "this id is an alias"
        else:
            return
        raise RequestError(problem, code="model_exists", param="id", hint="choose another one with --id")

    def put_alias(self, known: Alias) -> None:
        """An alias stands as it was committed; callers get that from here on."""
        self.register.put_alias(known)
        teach(self.catalog, self.register, self._home)

    async def _store(
        self,
        kind: Kind,
        known: Imported,
        public: Mapping[str, str | int],
        content: Mapping[str, Any],
        by: Principal | None,
    ) -> Receipt:
        row = tables.model_row(known)
        receipt = await self._audit.append(
            entry.state_changed(
                kind,
                table=tables.MODEL,
                row_id=known.id,
                row=row,
                public={**_named(known), **public},
                content=content,
                effects=lambda connection, _seq: db.put_row(connection, tables.model, row),
                by=by,
            )
        )
        self.register.put_model(known)  # after the commit: what is not on the record is known to nobody
        teach(self.catalog, self.register, self._home)
        return receipt


def teach(catalog: Catalog, register: Register, home: Home) -> None:
    """Tell the catalogue every imported model and every alias."""
    catalog.learn([specs.spec_of(each, home) for each in register.models()], register.meant())


def catalog_of(home: Home, settings: Settings) -> Catalog:
    """The catalogue with what the database holds, for a program that changes nothing."""
    return known_of(home, settings)[0]


def known_of(home: Home, settings: Settings) -> tuple[Catalog, Register]:
    """The same, and what the database holds; nothing where its schema is another one."""
    catalog, register = Catalog.load(home=home, default_model=settings.default_model), Register()
    place = db.of(home, settings)
    if db.schema(place).state is db.SchemaState.CURRENT:
        with db.reading(place) as connection:
            register = Register.read(connection)
        teach(catalog, register, home)
    return catalog, register


async def perform(
    command: ModelCommand, modelling: Modelling, *, accepted_by: Principal | None = None
) -> dict[str, Any]:
    """Carry out what the host's program asks. `accepted_by` has proved to be the command's account."""
    match command:
        case ImportModel():
            known, receipt = await modelling.import_model(_offered(command), accepted_by=accepted_by)
            return {"id": known.id, "sha256": known.sha256, "record": receipt.record}
        case RefuseModel():
            return {"record": (await modelling.refuse(command)).record}
        case RemoveModel():
            gone, receipt = await modelling.remove_model(command.id, why=command.why)
            return {
                "id": gone.id,
                "sha256": gone.sha256,
                "num_parts": len(gone.parts),
                "files_go": not any(each.sha256 == gone.sha256 for each in modelling.catalog.list()),
                "record": receipt.record,
            }
        case ListModels():
            return {"models": told(modelling.catalog, modelling.register)}


def told(catalog: Catalog, register: Register) -> list[dict[str, Any]]:
    """Every model of the catalogue, as JSON's own values. `imported` is None of the release's own."""
    found = []
    for spec in catalog.list():
        known = register.model(spec.id)
        is_imported = known is not None and known.sha256 == spec.sha256
        found.append(
            {
                "id": spec.id,
                "aliases": list(catalog.names_of(spec.id)),
                "state": str(state_of(catalog, register, spec)),
                "purpose": str(spec.purpose),
                "size_bytes": spec.size_bytes,
                "sha256": spec.sha256,
                "licence": spec.licence,
                "in_store": spec.path.is_file(),
                "evaluations": [
                    {"suite": each.suite, "score": each.score / ONE, "floor": each.floor / ONE}
                    for each in scored(register.evaluations(spec.id, spec.sha256))
                ],
                "imported": tables.plain(known) if known is not None and is_imported else None,
            }
        )
    return found


def scored(found: Sequence[Evaluation]) -> list[Scored]:
    """Of each suite the newest evaluation, as the gate counts it."""
    return newest(
        Scored(each.id, each.suite, each.score_thousandths, each.floor_thousandths, each.evaluated_us)
        for each in found
    )


def state_of(catalog: Catalog, register: Register, spec: ModelSpec) -> State:
    """How a model stands to callers, also where the configuration put an alias on it."""
    return State.ACTIVE if catalog.names_of(spec.id) else register.state(spec.id, spec.sha256)


def _offered(command: ImportModel) -> Imported:
    return Imported(
        id=command.id,
        sha256=command.sha256,
        size_bytes=command.size_bytes,
        purpose=command.purpose,
        file=command.file,
        parts=tuple(command.parts),
        licence=command.licence,
        origin=command.origin,
        card=command.card,
        signed_by=command.signed_by,
    )


def _named(known: Imported) -> dict[str, str]:
    return {"model": known.id, "model_sha256": known.sha256}
