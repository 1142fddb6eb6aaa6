"""`/healthz` (alive, the one open path), `/readyz` (able to serve, and why not), `/metrics`."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from appliance import readiness
from appliance.accounts.roles import Permission
from appliance.api.access import require
from appliance.certifying import state_of
from appliance.core import ModelSpec
from appliance.fleet import Fleet
from appliance.metrics import CONTENT_TYPE
from appliance.sampling import figures_of_workers
from appliance.services import Services, services_of
from appliance.witnessing import Visits

router = APIRouter()


class Health(BaseModel):
    """The process answers. Says nothing more to people without a key."""

    status: Literal["ok"] = "ok"


class LastVerification(BaseModel):
    """How the record was found when it was last verified; red also where it could not be."""

    green: bool
    tree_size: int
    ts: int


class DiskReadiness(BaseModel):
    """The home's disk: `warning` from 75 % on, `low` where nothing new is admitted."""

    state: str
    free_mib: int
    used_percent: int
    ballast: bool


class AuditReadiness(BaseModel):
    """The log's state; `reason` tells an operator why it is latched."""

    state: str
    reason: str
    tree_size: int
    verified: LastVerification | None
    disk: DiskReadiness


class WitnessReadiness(BaseModel):
    """When a witness last cosigned, POSIX seconds. A stale one is an alarm, and no reason to stop."""

    num_witnesses: int
    tree_size: int
    cosigned_at: int
    is_stale: bool


class ModelReadiness(BaseModel):
    """How a model is, and the layers of its worker's sandbox that hold, and what computes; empty while none
    is ready.

    `bytes`: of memory that it holds, or is reckoned to need; none before anybody asked it.
    """

    state: str
    says: str
    pinned: bool
    bytes: int | None
    restarts: int
    last_error: str
    sandbox: list[str] = []
    backend: str = ""


class CertificateReadiness(BaseModel):
    """What is served over TLS: `valid`, `renew`, `over`, or `not_taken`: its files hold what can not be."""

    state: str
    not_after: str
    problem: str


class Trouble(BaseModel):
    """One thing that is wrong, by its code; what `stops` keeps every new request out."""

    code: str
    says: str
    hint: str
    stops: bool


class Readiness(BaseModel):
    """Ready when the log commits, its disk has room and the default model answers.

    `troubles` says what keeps it from that, and what may do so soon: first what stops it.
    """

    ready: bool
    troubles: list[Trouble]
    audit: AuditReadiness
    witness: WitnessReadiness
    models: dict[str, ModelReadiness]
    memory_bytes: int  # that all models together may have
    certificate: CertificateReadiness | None = None  # where TLS is configured


@router.get("/healthz")
async def healthz() -> Health:
    """Alive."""
    return Health()


@router.get(
    "/readyz",
    dependencies=[require(Permission.SEE_READINESS)],
    responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness}},
)
async def readyz(request: Request, response: Response) -> Readiness:
    """Able to serve? 503 with the reason where not."""
    services = services_of(request.app)
    troubles = await services.readiness.look()
    if services.admitting.is_stopping:
        troubles = [readiness.STOPPING, *troubles]
    ready = not any(each.stops for each in troubles)
    state = await services.audit.checked()
    room = services.audit.room
    last = services.administration.verifications.last
    if not ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["retry-after"] = "2"
    return Readiness(
        ready=ready,
        troubles=[Trouble(**dataclasses.asdict(each)) for each in troubles],
        audit=AuditReadiness(
            state="ready" if state.is_ready else "latched",
            reason=state.reason,
            tree_size=services.audit.tree_size,
            verified=LastVerification(green=last.is_green, tree_size=last.size, ts=last.ts) if last else None,
            disk=DiskReadiness(
                state=str(room.level),
                free_mib=room.free_bytes >> 20,
                used_percent=round(room.used * 100),
                ballast=room.has_ballast,
            ),
        ),
        witness=_witness(services.witnessing.visits()),
        models={spec.id: _model(services.fleet, spec) for spec in services.fleet.served()},
        memory_bytes=services.fleet.rules.budget_bytes,
        certificate=_certificate(services),
    )


def _model(fleet: Fleet, spec: ModelSpec) -> ModelReadiness:
    standing, engine = fleet.standing(spec), fleet.engine_of(spec)
    ready = engine.status.ready if engine else None
    return ModelReadiness(
        state=standing.state,
        says=standing.says,
        pinned=fleet.is_pinned(spec),
        bytes=fleet.bytes_of(spec),
        restarts=engine.status.restarts if engine else 0,
        last_error=engine.status.last_error if engine else "",
        sandbox=list(ready.sandbox) if ready else [],
        backend=ready.backend if ready else "",
    )


def _certificate(services: Services) -> CertificateReadiness | None:
    if services.certifying is None:
        return None
    serving = services.certifying.serving
    return CertificateReadiness(
        state=state_of(serving, services.clock.now_us()),
        not_after=serving.about.ends_at,
        problem=serving.problem,
    )


def _witness(visits: Visits) -> WitnessReadiness:
    return WitnessReadiness(
        num_witnesses=visits.num_witnesses,
        tree_size=visits.size,
        cosigned_at=visits.time_s,
        is_stale=visits.is_stale,
    )


@router.get(
    "/metrics",
    dependencies=[require(Permission.SEE_METRICS)],
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    """Prometheus text: counts and times, no content."""
    services = services_of(request.app)
    room = services.audit.room
    services.metrics.audit(ready=services.audit.is_ready, tree_size=services.audit.tree_size)
    if last := services.administration.verifications.last:
        services.metrics.verified(green=last.is_green, tree_size=last.size, ts_us=last.ts)
    visits = services.witnessing.visits()
    services.metrics.witness(cosigned_at=visits.time_s, is_stale=visits.is_stale)
    services.metrics.disk(
        free_bytes=room.free_bytes, used=room.used, low=services.audit.is_low, ballast=room.has_ballast
    )
    fleet = services.fleet
    services.metrics.models.memory(fleet.rules.budget_bytes)
    for spec in fleet.served():
        engine = fleet.engine_of(spec)
        services.metrics.models.engine(
            spec.id,
            ready=engine is not None and engine.is_ready,
            restarts=engine.status.restarts if engine else 0,
            num_bytes=(fleet.bytes_of(spec) or 0) if engine else 0,
            backend=engine.status.ready.backend if engine and engine.status.ready else "",
        )
    figures_of_workers(services.metrics, fleet)
    return Response(services.metrics.render(), media_type=CONTENT_TYPE)
