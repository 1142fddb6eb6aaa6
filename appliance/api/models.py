"""`GET /v1/models` and `/v1/models/{id}`: what can be asked, by id and by alias."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.core import ModelSpec
from appliance.errors import RequestError
from appliance.services import Services, services_of

router = APIRouter()


class Model(BaseModel):
    """OpenAI's four fields, and what an agency wants to know besides."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["appliance"] = "appliance"
    root: str  # the model's own id; differs from `id` where that is an alias
    sha256: str
    licence: str
    state: str
    context_length: int


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", dependencies=[require(Permission.LIST_MODELS)])
async def list_models(request: Request) -> ModelList:
    """Every model that this appliance serves, and its aliases."""
    services = services_of(request.app)
    return ModelList(
        data=[_model(services, spec, name) for spec in services.served() for name in (spec.id, *spec.aliases)]
    )


@router.get("/v1/models/{name:path}", dependencies=[require(Permission.LIST_MODELS)])
async def retrieve_model(request: Request, name: str) -> Model:
    """One model by its id or an alias; ids may hold slashes."""
    services = services_of(request.app)
    spec = services.catalog.resolve(name)
    if spec is None or spec.id not in services.engines:
        raise RequestError("this model is not installed", code="model_not_found", param="model")
    return _model(services, spec, name)


def _model(services: Services, spec: ModelSpec, name: str) -> Model:
    status = services.engines[spec.id].status
    return Model(
        id=name,
        created=spec.created,
        root=spec.id,
        sha256=spec.sha256,
        licence=spec.licence,
        state=status.state.lower(),
        context_length=status.ready.n_ctx if status.ready else spec.n_ctx,
    )
