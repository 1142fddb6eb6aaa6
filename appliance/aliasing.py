"""Aliases move: activated, rolled back, pinned and removed, each act with its record in one transaction.

    the gate allows it → the model is loaded, and warm → the commit → callers get it → the one before may go

A request keeps the model that it was admitted for, so that none fails where an alias moves under it. Until
the commit the alias stands where it stood: a model that does not load changes nothing. Only where memory does
not hold both models, and somebody said that callers may wait, the commit comes first; then a model that does
not load sends the alias back.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from appliance import db
from appliance.accounts.directory import Directory
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.catalog import DEFAULT_ALIAS
from appliance.clock import Clock
from appliance.config import Settings
from appliance.core import ModelSpec, Principal, Receipt
from appliance.errors import ApplianceError, RequestError
from appliance.modelling import PROGRAM, Modelling
from appliance.models import aliases, tables
from appliance.models.aliases import NOWHERE
from appliance.models.cards import Pointed
from appliance.models.tables import Alias
from appliance.policy import activation
from appliance.policy.activation import Allow, Scored
from appliance.policy.admission import Refuse

_QUEUED_SECONDS: Final = 60  # on top of a load: others may be loaded first
_HINTS: Final = {
    "below_floor": "an admin goes past it with --override --as NAME, on the record",
    "not_evaluated": "evaluate it; an admin goes past it with --override --as NAME, on the record",
}


class Loading(Protocol):
    """What a running gateway does for an activation."""

    async def has_room(self, spec: ModelSpec, *, beside: ModelSpec | None) -> bool:
        """Whether nobody would have to wait: memory holds it while the other one still answers, whatever
        else has to go, and where it is loaded it has its adapter.
        """

    def engine_of(self, spec: ModelSpec) -> object | None:
        """Its engine, where it is loaded already, with its adapter or without."""

    def lease(self, spec: ModelSpec, *, seconds: float) -> AbstractAsyncContextManager[object]:
        """Loaded, warm and answering for as long as this is held. ApplianceError where it does not load."""

    def review(self) -> None:
        """Names mean other models than before."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an activation asks for. `scale`: how strongly the adapter counts, 1 as it was trained."""

    model: str
    why: str
    alias: str = DEFAULT_ALIAS
    adapter: str = ""
    scale: float = 1.0
    allow_gap: bool = False
    override: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """An alias as it stands, what it stood for, and its record; None where it stood so already."""

    alias: Alias
    before: Pointed | None
    receipt: Receipt | None
    notes: tuple[str, ...] = ()


class Aliasing:
    """Moves aliases. Owner of `_moving`: one act at a time, from the question to the commit."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        modelling: Modelling,
        directory: Directory,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.modelling = modelling
        self._audit = audit
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._moving = asyncio.Lock()

    async def activate(
        self, wanted: Wanted, *, loading: Loading | None = None, by: Principal | None = None
    ) -> Moved:
        """Let an alias stand for a model; where no gateway runs, its file is read instead of loaded.

        RequestError where the gate refuses it, where both models need more memory than there is and no gap is
        allowed, or where something of it is not here. What loading raises leaves the alias as it was.
        """
        aliases.check_why(wanted.why)
        async with self._moving:
            register, catalog = self.modelling.register, self.modelling.catalog
            aliases.check_name(wanted.alias, catalog, register.aliases())
            now = aliases.pointed(catalog, wanted.model, wanted.adapter, wanted.scale)
            known = register.alias(wanted.alias)
            before = aliases.stands_for(catalog, wanted.alias)
            if before == now and known is not None:
                return Moved(known, before, None, ("the alias stands for this model already",))
            allowed = self._gate(wanted, now, before)
            await asyncio.to_thread(aliases.check_adapter, aliases.spec_of(catalog, now))
            made = self._touched(
                known if known is not None else Alias(wanted.alias, now, 0, PROGRAM, ""),
                wanted.why,
                by,
                now=now,
                previous=aliases.pushed(before if before != now else None, known),
            )
            receipt = await self._move(
                Kind.ALIAS_ACTIVATED,
                made,
                before,
                loading,
                by,
                allow_gap=wanted.allow_gap,
                overridden=allowed.overridden,
            )
            return Moved(made, before, receipt, allowed.notes)

    async def roll_back(
        self,
        name: str,
        *,
        why: str,
        allow_gap: bool = False,
        loading: Loading | None = None,
        by: Principal | None = None,
    ) -> Moved:
        """Let an alias stand for what it stood for before; the model that it leaves is not looked at.

        No evaluation is asked for: that model answered here before. RequestError where there is none.
        """
        aliases.check_why(why)
        async with self._moving:
            known = self._existing(name)
            if not known.previous:
                raise RequestError(
                    "this alias stood for nothing else before",
                    code="nothing_to_roll_back",
                    hint="appliance model activate names a model",
                )
            made = self._touched(known, why, by, now=known.previous[0], previous=known.previous[1:])
            receipt = await self._move(
                Kind.ALIAS_ROLLED_BACK, made, known.now, loading, by, allow_gap=allow_gap
            )
            return Moved(made, known.now, receipt)

    async def pin(
        self,
        name: str,
        *,
        pinned: bool,
        why: str,
        loading: Loading | None = None,
        by: Principal | None = None,
    ) -> Moved:
        """Let the alias's model stay loaded, or no longer."""
        aliases.check_why(why)
        async with self._moving:
            known = self.modelling.register.alias(name) or self._placed(name)
            if known.now == NOWHERE:
                raise _unknown()
            if known.pinned == pinned:
                return Moved(known, known.now, None, ("it is so already",))
            made = self._touched(known, why, by, pinned=pinned)
            moved = await self._changed("pinned" if pinned else "unpinned", made, known.now, by)
            if loading is not None:
                loading.review()
            return moved

    async def remove(
        self, name: str, *, why: str, loading: Loading | None = None, by: Principal | None = None
    ) -> Moved:
        """An alias stands for nothing from now on. RequestError where somebody still relies on it."""
        aliases.check_why(why)
        async with self._moving:
            known = self._existing(name)
            self._require_unused(name)
            made = self._touched(known, why, by, pinned=False, now=NOWHERE, previous=())
            moved = await self._changed("removed", made, known.now, by)
            if loading is not None:
                loading.review()
            return moved

    def _gate(self, wanted: Wanted, now: Pointed, before: Pointed | None) -> Allow:
        catalog = self.modelling.catalog
        until_now = catalog.find(before.model) if before is not None else None
        # With an adapter it is the adapter that was asked: the model by itself says nothing about it.
        asked = (now.adapter, now.adapter_sha256) if now.adapter else (now.model, now.sha256)
        found = self.modelling.register.evaluations(*asked)
        decision = activation.decide(
            aliases.spec_of(catalog, now).purpose,
            until_now.purpose if until_now is not None else None,
            [
                Scored(each.id, each.suite, each.score_thousandths, each.floor_thousandths, each.evaluated_us)
                for each in found
            ],
            is_required=self._settings.models.require_evaluation,
            is_overridden=wanted.override,
        )
        if isinstance(decision, Refuse):
            raise RequestError(
                decision.reason,
                code=decision.code,
                param=decision.param,
                hint=_HINTS.get(decision.code, ""),
            )
        return decision

    async def _move(
        self,
        kind: Kind,
        made: Alias,
        before: Pointed | None,
        loading: Loading | None,
        by: Principal | None,
        *,
        allow_gap: bool,
        overridden: str = "",
    ) -> Receipt:
        """Load, commit, hand over; in the order that memory allows."""
        catalog = self.modelling.catalog
        spec = aliases.spec_of(catalog, made.now)
        if loading is None:
            await asyncio.to_thread(catalog.verify, spec)
            return await self._store(kind, made, before, by, overridden=overridden)
        seconds = self._settings.engine.load_timeout_seconds + _QUEUED_SECONDS
        if await loading.has_room(spec, beside=catalog.resolve(made.name)):
            async with loading.lease(spec, seconds=seconds):  # and it stays loaded until callers get it
                receipt = await self._store(kind, made, before, by, overridden=overridden)
                loading.review()
                return receipt
        if not allow_gap:
            raise _waits(is_loaded=loading.engine_of(spec) is not None)
        receipt = await self._store(kind, made, before, by, overridden=overridden)
        loading.review()
        try:
            async with loading.lease(spec, seconds=seconds):
                return receipt
        except ApplianceError as problem:
            why = f"{made.now.model} did not load: {problem.code}"
            earlier = made.previous[1:] if kind is Kind.ALIAS_ACTIVATED else made.previous
            now = before if before is not None else NOWHERE
            back = self._touched(made, why, None, now=now, previous=earlier)
            await self._store(Kind.ALIAS_ROLLED_BACK, back, made.now, None)
            loading.review()
            raise

    def _existing(self, name: str) -> Alias:
        known = self.modelling.register.alias(name)
        if known is None or known.now == NOWHERE:
            raise _unknown()
        return known

    def _placed(self, name: str) -> Alias:
        """An alias that stands where the configuration or the release put it, as a row of its own."""
        now = aliases.stands_for(self.modelling.catalog, name)
        if now is None:
            raise _unknown()
        return Alias(name, now, 0, PROGRAM, "")

    def _touched(self, known: Alias, why: str, by: Principal | None, **changed: Any) -> Alias:
        changed_by = by.key_id if by is not None else PROGRAM
        return dataclasses.replace(
            known, changed_us=self._clock.now_us(), changed_by=changed_by, why=why, **changed
        )

    def _require_unused(self, name: str) -> None:
        """RequestError where callers would be left without a model."""
        if name == DEFAULT_ALIAS:
            raise RequestError(
                "this alias always exists", code="alias_in_use", hint="let it stand for another model instead"
            )
        now_us = self._clock.now_us()
        keys = [
            each.id for each in self._directory.all() if each.is_active(now_us) and name in each.terms.models
        ]
        if keys:
            raise RequestError(
                f"keys may ask this alias by their terms: {', '.join(keys)}",
                code="alias_in_use",
                hint="appliance key change --models gives them another one",
            )
        if self._settings.kiosk.model == name:
            raise RequestError(
                "the lobby's screen asks this alias",
                code="alias_in_use",
                hint="see [kiosk] in appliance.toml",
            )

    async def _changed(self, change: str, made: Alias, before: Pointed, by: Principal | None) -> Moved:
        receipt = await self._store(Kind.ALIAS_CHANGED, made, before, by, {"change": change})
        return Moved(made, before, receipt)

    async def _store(
        self,
        kind: Kind,
        made: Alias,
        before: Pointed | None,
        by: Principal | None,
        said: Mapping[str, str | int] | None = None,
        *,
        overridden: str = "",
    ) -> Receipt:
        row = tables.alias_row(made)
        was = before if before is not None else NOWHERE
        content = {"why": made.why, "now": aliases.told(made.now), "before": aliases.told(was)}
        if kind is Kind.ALIAS_ACTIVATED:
            said = {"override": int(bool(overridden))}
        receipt = await self._audit.append(
            entry.state_changed(
                kind,
                table=tables.ALIAS,
                row_id=made.name,
                row=row,
                public={
                    "alias": made.name,
                    "model": made.now.model,
                    "model_sha256": made.now.sha256,
                    "adapter_sha256": made.now.adapter_sha256,
                    "previous_model_sha256": was.sha256,
                    "previous_adapter_sha256": was.adapter_sha256,
                    **(said or {}),
                },
                content={**content, **({"overridden": overridden} if overridden else {})},
                effects=lambda connection, _seq: db.put_row(connection, tables.alias, row),
                by=by,
            )
        )
        self.modelling.put_alias(made)  # after the commit: callers get what is on the record
        return receipt


def _waits(*, is_loaded: bool) -> RequestError:
    """Callers would have to wait, and nobody said that they may."""
    if is_loaded:
        return RequestError(
            "this model is loaded without the adapter",
            code="adapter_not_loaded",
            hint="with --allow-gap callers of this model wait until it is loaded anew, with the adapter",
        )
    return RequestError(
        "memory does not hold this model beside the one that answers now",
        code="no_room_for_both",
        hint="with --allow-gap callers wait until the one is unloaded and the other one loaded",
    )


def _unknown() -> RequestError:
    return RequestError(
        "there is no alias of this name",
        code="alias_not_found",
        param="alias",
        hint="appliance model alias list shows them",
    )
