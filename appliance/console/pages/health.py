"""The operator's first page: is it well, how much does it do, and what helps where it is not. No content.

Looking at it leaves no record: it shows counts, and entries that are about no request (`happenings`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from appliance import db
from appliance.accounts.roles import Permission
from appliance.audit import happenings
from appliance.audit.kinds import Kind
from appliance.console.frame import call_of, render, route
from appliance.console.pages import health_words
from appliance.console.pages.health_words import Alarm, Figure, Help
from appliance.console.plots import Plot, Series
from appliance.console.render import NavItem
from appliance.core import ModelSpec, Outcome
from appliance.engine.messages import Ready
from appliance.errors import ApplianceError, RequestError
from appliance.fleet import Fleet
from appliance.log import get_logger
from appliance.metrics import WorkerFigures
from appliance.reviewing import Reviews
from appliance.services import Services
from appliance.trends import QUARTER_US, Point, Ring

_ALARM_DAYS: Final = 7
_MAX_ALARMS: Final = 20
# Calm for what is well, red for what is not; the legend names each.
_LOOKS: Final = {
    "stop": 1,
    "length": 3,
    "tool calls": 4,
    "content filter": 7,
    "client gone": 6,
    "failed": 5,
    "recovered": 5,
    "refused": 2,
}
_DAY_US: Final = 86_400_000_000

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model and its worker."""

    id: str
    sha256: str
    state: str
    says: str
    is_ready: bool
    is_wrong: bool
    is_pinned: bool
    restarts: int
    last_error: str
    memory: int | None
    figures: WorkerFigures | None
    ready: Ready | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the record told; `problem` where it could not be read."""

    alarms: list[Alarm]
    backup_us: int | None
    problem: str = ""


async def page(request: Request) -> Response:
    """The whole page."""
    return await _render(request, "operator/health.html")


async def now(request: Request) -> Response:
    """What changes on it, for its script."""
    return await _render(request, "operator/health_now.html")


async def _render(request: Request, template: str) -> Response:
    services = call_of(request).services
    span = request.query_params.get("span", "hour")
    if span not in {"hour", "day"}:
        raise RequestError("the span is hour or day", code="invalid_value", param="span")
    state = await services.audit.checked()
    recorded = await asyncio.to_thread(_recorded, services)
    models = [_model(services.fleet, spec) for spec in services.fleet.served()]
    figures = _figures(services, state.reason, recorded, await _review(services), models)
    worst = [each for each in figures if each.mark in {"bad", "warn"}]
    return render(
        request,
        template,
        active="/health",
        span=span,
        now_us=services.clock.now_us(),
        reason=state.reason,
        help=health_words.help_with(state.reason) if state.reason else Help("", ()),
        figures=figures,
        worst=worst,
        recorded=recorded,
        alarm_days=_ALARM_DAYS,
        models=models,
        budget=services.fleet.rules.budget_bytes,
        held=services.fleet.used_bytes,
        plots=plots(services.trends.hour if span == "hour" else services.trends.day),
        refused=_refused(services),
    )


def _recorded(services: Services) -> Recorded:
    place = db.of(services.home, services.settings)
    since_us = services.clock.now_us() - _ALARM_DAYS * _DAY_US
    try:
        found = happenings.alarms(place, since_us=since_us, limit=_MAX_ALARMS)
        backup_us = happenings.last_of(place, Kind.DATABASE_BACKED_UP)
    except (ApplianceError, SQLAlchemyError, OSError) as error:
        # The page is most wanted when this happens, and says so.
        log.warning("record_unreadable", error=type(error).__name__)
        return Recorded([], None, type(error).__name__)
    return Recorded([health_words.alarm_of(each) for each in found], backup_us)


async def _review(services: Services) -> Reviews | None:
    try:
        return await services.reviewing.reviews()
    except (ApplianceError, SQLAlchemyError, OSError) as error:
        log.warning("record_unreadable", error=type(error).__name__)
        return None


def _figures(
    services: Services,
    reason: str,
    recorded: Recorded,
    review: Reviews | None,
    models: Sequence[ModelState],
) -> list[Figure]:
    now_us = services.clock.now_us()
    counts = services.metrics.counts()
    lately = services.trends.hour.since(now_us - QUARTER_US)
    return [
        health_words.log_figure(is_ready=not reason, reason=reason, tree_size=services.audit.tree_size),
        health_words.models_figure(
            sum(each.is_ready for each in models),
            len(models),
            sum(each.is_wrong for each in models),
            sum(each.restarts for each in models),
        ),
        health_words.load_figure(counts.running, counts.waiting, services.settings.engine.max_waiting),
        health_words.answers_figure(lately),
        health_words.speed_figure(lately),
        health_words.wait_figure(lately),
        health_words.gap_figure(lately),
        health_words.disk_figure(services.audit.room),
        health_words.verified_figure(services.administration.verifications.last, now_us=now_us),
        health_words.witness_figure(services.witnessing.visits(), now_us=now_us),
        health_words.review_figure(review, now_us=now_us),
        health_words.backup_figure(recorded.backup_us, now_us=now_us),
    ]


def _model(fleet: Fleet, spec: ModelSpec) -> ModelState:
    standing, engine = fleet.standing(spec), fleet.engine_of(spec)
    status = engine.status if engine else None
    is_ready, is_pinned = engine is not None and engine.is_ready, fleet.is_pinned(spec)
    return ModelState(
        id=spec.id,
        sha256=spec.sha256,
        state=standing.state.replace("_", " "),
        says=standing.says,
        is_ready=is_ready,
        is_wrong=not standing.can_be_asked or (is_pinned and not is_ready),
        is_pinned=is_pinned,
        restarts=status.restarts if status else 0,
        last_error=status.last_error if status else "",
        memory=engine.worker_bytes if engine else None,
        figures=engine.figures if engine else None,
        ready=status.ready if status else None,
    )


def _refused(services: Services) -> list[tuple[str, int]]:
    """Refusals of the last day by code, most first."""
    point = services.trends.day.since(services.clock.now_us() - _DAY_US)
    return sorted(point.refused.items(), key=lambda each: -each[1]) if point is not None else []


def plots(ring: Ring) -> list[Plot]:
    """Six pictures of one ring."""
    points = ring.slots()
    seen = {name for _, each in points if each is not None for name in each.closed}

    def closed(outcome: str) -> Callable[[Point], float]:
        return lambda point: point.per_minute(point.closed.get(outcome, 0))

    return [
        _plot(
            "Requests",
            "per minute, by outcome",
            points,
            [
                *((_name(each), closed(each)) for each in Outcome if each in seen),
                ("refused", lambda point: point.per_minute(sum(point.refused.values()))),
            ],
            looks=_LOOKS,
            is_stacked=True,
        ),
        _plot(
            "Running and waiting",
            "longest of each slot",
            points,
            [("running", lambda point: point.running), ("waiting", lambda point: point.waiting)],
        ),
        _plot("Tokens written", "per second", points, [("tokens", lambda point: point.tokens_per_second)]),
        _plot("Step time", "milliseconds, mean", points, [("step", lambda point: point.step_ms)]),
        _plot(
            "Time to first token",
            "seconds",
            points,
            [
                ("half within", lambda point: point.first_token.p50),
                ("95 of 100 within", lambda point: point.first_token.p95),
            ],
        ),
        _plot(
            "Between two tokens",
            "milliseconds",
            points,
            [
                ("half within", lambda point: _ms(point.gap.p50)),
                ("95 of 100 within", lambda point: _ms(point.gap.p95)),
            ],
        ),
    ]


def _plot(
    title: str,
    unit: str,
    points: Sequence[tuple[int, Point | None]],
    series: Sequence[tuple[str, Callable[[Point], float | None]]],
    *,
    looks: Mapping[str, int] = MappingProxyType({}),
    is_stacked: bool = False,
) -> Plot:
    return Plot(
        title,
        unit,
        [end_us for end_us, _ in points],
        [
            Series(name, [value(each) if each else None for _, each in points], looks.get(name, 0))
            for name, value in series
        ],
        is_stacked,
    )


def _name(outcome: str) -> str:
    return outcome.replace("_", " ")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


ROUTES = [route("/health", page, Permission.SEE_HEALTH), route("/health/now", now, Permission.SEE_HEALTH)]
MENU = [NavItem("Health", "/health", Permission.SEE_HEALTH)]
