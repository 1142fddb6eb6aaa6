"""Models: what is active, staged and retired, who moved each alias last and why, and how each model did.

For reading only: models are imported and aliases moved by the host's own program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.roles import Permission
from appliance.console.frame import Call, call_of, render, route
from appliance.console.pages.documents import person
from appliance.console.render import NavItem
from appliance.core import ModelSpec
from appliance.modelling import scored, state_of
from appliance.models import aliases
from appliance.models.cards import Pointed
from appliance.models.register import State
from appliance.models.tables import Alias
from appliance.policy.activation import Scored

_MARKS: Final = {State.ACTIVE: "good", State.STAGED: "warn", State.RETIRED: ""}
_ORDER: Final = (State.ACTIVE, State.STAGED, State.RETIRED)


@dataclass(frozen=True, slots=True)
class Named:
    """One alias as the list shows it. `moved` is None where the configuration or the release put it."""

    name: str
    now: Pointed
    moved: Alias | None
    by: str
    is_ready: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One model as the list shows it. `memory` in bytes; None while it is not loaded, or not known."""

    spec: ModelSpec
    state: State
    mark: str
    names: Sequence[str]
    memory: int | None
    is_ready: bool
    is_loaded: bool
    evaluations: Sequence[Scored]
    imported_us: int | None
    origin: str


async def page(request: Request) -> Response:
    """Aliases, then models."""
    call = call_of(request)
    return render(
        request,
        "operator/models.html",
        active="/models",
        named=_named(call),
        models=_models(call),
        required=call.services.settings.models.require_evaluation,
    )


def _named(call: Call) -> list[Named]:
    services = call.services
    found = []
    for name in sorted(services.catalog.names()):
        now = aliases.stands_for(services.catalog, name)
        if now is None:
            continue
        known = services.modelling.register.alias(name)
        moved = known if known is not None and known.now == now else None
        engine = services.fleet.engines.get(now.model)
        found.append(
            Named(
                name=name,
                now=now,
                moved=moved,
                by=person(call, moved.changed_by) if moved is not None else "",
                is_ready=engine is not None and engine.is_ready,
            )
        )
    return found


def _models(call: Call) -> list[Shown]:
    services = call.services
    register = services.modelling.register
    found = []
    for spec in services.catalog.list():
        names = services.catalog.names_of(spec.id)
        state = state_of(services.catalog, register, spec)
        engine = services.fleet.engines.get(spec.id)
        imported = register.model(spec.id)
        found.append(
            Shown(
                spec=spec,
                state=state,
                mark=_MARKS[state],
                names=names,
                memory=engine.worker_bytes if engine is not None else None,
                is_ready=engine is not None and engine.is_ready,
                is_loaded=engine is not None,
                evaluations=scored(register.evaluations(spec.id, spec.sha256)),
                imported_us=imported.imported_us if imported is not None else None,
                origin=imported.origin if imported is not None else "",
            )
        )
    return sorted(found, key=lambda each: (_ORDER.index(each.state), each.spec.id))


ROUTES = [route("/models", page, Permission.SEE_HEALTH)]
MENU = [NavItem("Models", "/models", Permission.SEE_HEALTH)]
