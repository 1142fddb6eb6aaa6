"""`GET /v1/models` and `/v1/models/{id}`: what can be asked, by id and by alias."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.api.border import visit_of
from appliance.core import ModelSpec
from appliance.engine.status import EngineStatus
from appliance.errors import Refused, RequestError
from appliance.policy.permits import allows_model
from appliance.services import Services, services_of

router = APIRouter()


class Capacity(BaseModel):
    """What the loaded model can do here, now, and how it computes."""

    n_params: int
    description: str
    backend: str
    library: str
    cells: int  # of the key-value pool, shared by all that run
    cell_bytes: int
    sequences: int  # that run at once; more wait
    shares_prefixes: bool
    flash_attention: bool
    n_threads: int
    n_threads_batch: int
    running: int
    waiting: int


class ToolSupport(BaseModel):
    """How the loaded model is told of tools, and writes its calls.

    `format` names the way that its chat template has; `in_words` where that knows no tools, or knows them
    in a way that is not known here: then they are described in the system message.
    """

    format: str
    native: bool


class LaidOver(BaseModel):
    """A LoRA file that an alias adds to its model."""

    id: str
    sha256: str
    scale: float


class Model(BaseModel):
    """OpenAI's four fields, and what an agency wants to know besides."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["appliance"] = "appliance"
    root: str  # the model's own id; differs from `id` where that is an alias
    sha256: str
    adapter: LaidOver | None = None
    aliases: list[str]  # every name under which it is answered like this
    licence: str
    # ready, loading, unloaded (it is loaded when it is asked), unloading, failed, too_large
    state: str
    pinned: bool  # it is loaded at the start, and stays
    context_length: int
    # Of one model's own page; the capacity while it is loaded, the others once it has been.
    capacity: Capacity | None = None
    tools: ToolSupport | None = None
    reasoning: bool | None = None  # it thinks before it answers, and `reasoning_effort` says how long


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", dependencies=[require(Permission.LIST_MODELS)], response_model_exclude_none=True)
async def list_models(request: Request) -> ModelList:
    """Every model that this key may use, and its aliases."""
    services = services_of(request.app)
    terms = visit_of(request.scope).known_principal.terms
    named = [
        (name, services.catalog.resolve(name))
        for spec in services.fleet.served()
        for name in (spec.id, *services.catalog.names_of(spec.id))
    ]
    # A LoRA file is no model: its id means nothing, and its aliases are those of its model.
    return ModelList(
        data=[
            _model(services, spec, name)
            for name, spec in dict(named).items()
            if spec is not None and allows_model(terms, spec)
        ]
    )


@router.get("/v1/models/{name:path}", dependencies=[require(Permission.LIST_MODELS)])
async def retrieve_model(request: Request, name: str) -> Model:
    """One model by its id or an alias; ids may hold slashes."""
    services = services_of(request.app)
    spec = services.catalog.resolve(name)
    if spec is None or not services.fleet.is_known(spec):
        raise RequestError("this model is not installed", code="model_not_found", param="model")
    if not allows_model(visit_of(request.scope).known_principal.terms, spec):
        raise Refused("this key may not use this model", code="model_not_allowed", param="model")
    engine = services.fleet.engine_of(spec)
    model = _model(services, spec, name, capacity=_capacity(engine.status) if engine else None)
    if (told := services.fleet.told(spec)) is not None:
        native = told.calls_natively
        model.tools = ToolSupport(format=told.dialect if native else "in_words", native=native)
        model.reasoning = told.thinks
    return model


def _model(services: Services, spec: ModelSpec, name: str, *, capacity: Capacity | None = None) -> Model:
    told, laid = services.fleet.told(spec), spec.adapter
    return Model(
        id=name,
        created=spec.created,
        root=spec.id,
        sha256=spec.sha256,
        adapter=LaidOver(id=laid.id, sha256=laid.sha256, scale=laid.scale) if laid is not None else None,
        aliases=sorted(spec.aliases),
        licence=spec.licence,
        state=services.fleet.standing(spec).state,
        pinned=services.fleet.is_pinned(spec),
        context_length=told.n_ctx if told else spec.n_ctx,
        capacity=capacity,
    )


def _capacity(status: EngineStatus) -> Capacity | None:
    ready = status.ready
    if ready is None:
        return None
    stats = status.stats
    return Capacity(
        n_params=ready.n_params,
        description=ready.description,
        backend=ready.backend,
        library=ready.library,
        cells=ready.n_cells,
        cell_bytes=ready.cell_bytes,
        sequences=ready.n_seq_max,
        shares_prefixes=ready.can_share_prefixes,
        flash_attention=ready.tuning.flash_attn,
        n_threads=ready.tuning.n_threads,
        n_threads_batch=ready.tuning.n_threads_batch,
        running=stats.running if stats else 0,
        waiting=stats.waiting if stats else 0,
    )
