"""The composition root: settings → a running appliance, and back to nothing.

Order of life: lock and log first, then keys and catalogue, then workers; the reverse at the end, so
that every closing finds a log that still commits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance import configured, db, sampling
from appliance.accounts.directory import Directory
from appliance.accounts.stored import ResponseStore
from appliance.administration import Administration
from appliance.admitting import Admitting
from appliance.alone import open_log_alone
from appliance.approvals import Approvals
from appliance.audit.log import AuditLog
from appliance.auditing import Auditing
from appliance.catalog import DEFAULT_ALIAS, Catalog
from appliance.certifying import Certifying
from appliance.clock import Clock, SystemClock
from appliance.config import Home, Settings
from appliance.control import ControlServer
from appliance.copies import Copies
from appliance.core import ModelSpec
from appliance.custody import Custody
from appliance.doors import Doors
from appliance.engine import memory
from appliance.engine.process import DEFAULT_COMMAND
from appliance.errors import InternalError, SetupError
from appliance.evaluating.asking import Asking
from appliance.exporting import Exporting
from appliance.fleet import Fleet
from appliance.guarding import Guarding
from appliance.hands import OwnHands
from appliance.hosting import Hosted
from appliance.idempotency import Retries
from appliance.inference import Inference
from appliance.lives import Lives
from appliance.metrics import Metrics
from appliance.modelling import Modelling, catalog_of
from appliance.people import People
from appliance.performing import Live
from appliance.publishing import Publishing
from appliance.quotas import count_today
from appliance.readiness import Readiness
from appliance.refusals import Refusals
from appliance.reviewing import Reviewing
from appliance.searches import Searches
from appliance.selftest import SelfTest
from appliance.trends import Trends
from appliance.witnessing import Witnessing

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass(slots=True)
class Services:
    """Everything that a request can reach."""

    settings: Settings
    home: Home
    clock: Clock
    audit: AuditLog
    directory: Directory
    administration: Administration
    custody: Custody
    auditing: Auditing
    witnessing: Witnessing
    people: People
    copies: Copies
    approvals: Approvals
    reviewing: Reviewing
    searches: Searches
    catalog: Catalog
    fleet: Fleet
    metrics: Metrics
    trends: Trends
    refusals: Refusals
    inference: Inference
    admitting: Admitting
    responses: ResponseStore
    retries: Retries
    exporting: Exporting
    hosted: Hosted
    publishing: Publishing
    modelling: Modelling
    doors: Doors
    readiness: Readiness
    certifying: Certifying | None  # where TLS is configured
    _background: set[asyncio.Task[None]] = field(default_factory=set)


def services_of(app: FastAPI) -> Services:
    """The services that `create_app` was given."""
    services = app.state.services
    if not isinstance(services, Services):
        raise InternalError("the application has no services")
    return services


@contextlib.asynccontextmanager
async def run_services(
    home: Home,
    settings: Settings,
    *,
    clock: Clock | None = None,
    worker_command: Sequence[str] | None = None,
) -> AsyncIterator[Services]:
    """A running appliance without its HTTP side. `worker_command` replaces the worker program."""
    clock = clock or SystemClock()
    _require_separation(home, settings)
    await asyncio.to_thread(_verify_default, home, settings)
    with open_log_alone(home, settings, clock) as alone:
        await configured.record(alone.audit, home, settings)
        catalog = alone.modelling.catalog
        spec = _default(catalog)
        certifying = None
        if settings.server.tls_certificate:
            certifying = Certifying(settings.server, alone.audit, clock, home)
            await certifying.begin()
        metrics = Metrics()
        recorder = Lives(alone.audit)

        def pinned_names() -> list[str]:
            return [each.name for each in alone.modelling.register.aliases() if each.pinned]

        fleet = Fleet(
            catalog=catalog,
            settings=settings.engine,
            budget_bytes=memory.budget_of(settings.engine),
            clock=clock,
            hands=OwnHands(
                home,
                settings.engine,
                catalog,
                pinned_names,
                clock,
                worker_command or DEFAULT_COMMAND,
                metrics,
                recorder.on_event,
            ),
        )
        inference = Inference(
            audit=alone.audit,
            catalog=catalog,
            fleet=fleet,
            admitting=Admitting(settings, fleet=fleet, clock=clock, metrics=metrics),
            guarding=Guarding(alone.publishing.library, metrics),
            engine_settings=settings.engine,
            audit_settings=settings.audit,
            clock=clock,
            metrics=metrics,
        )
        approvals = Approvals(
            audit=alone.audit,
            custody=alone.custody,
            home=home,
            database=db.of(home, settings),
            clock=clock,
        )
        if alone.audit.is_ready:
            await approvals.tidy()
        refusals = Refusals(alone.audit, clock, burst=settings.audit.refusal_burst)
        doors = Doors(home)
        readiness = Readiness(
            audit=alone.audit,
            catalog=catalog,
            fleet=fleet,
            certifying=certifying,
            verifications=alone.administration.verifications,
            witnessing=alone.witnessing,
            clock=clock,
        )
        control = ControlServer(
            home.control_socket,
            alone,
            Live(
                doors,
                SelfTest(audit=alone.audit, catalog=catalog, fleet=fleet, inference=inference),
                readiness,
                inference.admitting,
                fleet,
                Asking(inference),
            ),
        )
        services = Services(
            settings=settings,
            home=home,
            clock=clock,
            audit=alone.audit,
            directory=alone.directory,
            administration=alone.administration,
            custody=alone.custody,
            auditing=alone.auditing,
            witnessing=alone.witnessing,
            people=alone.people,
            copies=Copies(
                home=home,
                database=db.of(home, settings),
                audit=alone.audit,
                custody=alone.custody,
                clock=clock,
            ),
            approvals=approvals,
            reviewing=Reviewing(
                audit=alone.audit,
                database=db.of(home, settings),
                clock=clock,
                review_days=settings.audit.review_days,
            ),
            searches=Searches(audit=alone.audit, database=db.of(home, settings), clock=clock),
            catalog=catalog,
            fleet=fleet,
            metrics=metrics,
            trends=Trends(),
            refusals=refusals,
            inference=inference,
            admitting=inference.admitting,
            responses=ResponseStore(home, clock, settings.responses),
            retries=Retries(keep_seconds=60 * settings.server.idempotency_minutes),
            exporting=alone.exporting,
            hosted=alone.hosted,
            publishing=alone.publishing,
            modelling=alone.modelling,
            doors=doors,
            readiness=readiness,
            certifying=certifying,
        )
        await control.start()
        refusals.start()
        keepers = [
            asyncio.create_task(alone.custody.keep_periods_for_ever()),
            asyncio.create_task(
                count_today(
                    home, db.of(home, settings), alone.audit, alone.directory, inference.admitting, clock
                )
            ),
            asyncio.create_task(services.retries.forget_for_ever(clock)),
            asyncio.create_task(alone.uses.keep_for_ever()),
            asyncio.create_task(sampling.sample_for_ever(services.trends, metrics, fleet, clock)),
        ]
        if certifying is not None:
            keepers.append(asyncio.create_task(certifying.watch_for_ever()))
        alone.administration.verifications.start()
        fleet.start(verified=spec)
        try:
            yield services
        finally:
            for each in keepers:
                each.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await services.copies.stop()
            await alone.administration.verifications.stop()
            await control.stop()
            await inference.stop(settings.server.shutdown_grace_seconds)
            await fleet.stop()
            await inference.drain(settings.audit.commit_timeout_seconds + 1)
            await refusals.stop()
            await recorder.settle()


def _require_separation(home: Home, settings: Settings) -> None:
    """In production nobody who runs the box holds what reads its record. SetupError otherwise."""
    held = sorted(path.name for path in home.keys.glob("*.identity"))
    if settings.profile == "production" and held:
        raise SetupError(
            f"keys/ holds {', '.join(held)}: whoever runs this box could read the whole record",
            code="identity_on_box",
            hint="carry the file to a safe, or to the auditor whose it is, and delete it here",
        )


def _verify_default(home: Home, settings: Settings) -> None:
    """Before anything of this start is on the record: the default model is here, and what it was."""
    catalog = catalog_of(home, settings)
    spec = _default(catalog)
    catalog.verify(spec)
    if settings.engine.worker_socket:
        catalog.open_to_workers(spec, home)


def _default(catalog: Catalog) -> ModelSpec:
    spec = catalog.resolve(DEFAULT_ALIAS)
    if spec is None:
        raise SetupError(
            "the default model is not in the catalogue",
            code="model_not_found",
            hint="default_model in appliance.toml must name a file in models/",
        )
    return spec
