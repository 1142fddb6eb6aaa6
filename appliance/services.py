"""The composition root: settings → a running appliance, and back to nothing.

Order of life: lock and log first, then keys and catalogue, then workers; the reverse at the end, so
that every closing finds a log that still commits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import appliance
from appliance import configured, db, sampling
from appliance.accounts import tables
from appliance.accounts.accounts import Register
from appliance.accounts.directory import Directory
from appliance.accounts.duties import ACCOUNT, API_KEY, KEY_POLICY, PINNED_WITNESS, Duties, Holder
from appliance.accounts.keys import ApiKey
from appliance.accounts.stored import ResponseStore
from appliance.accounts.uses import Uses
from appliance.administration import Administration
from appliance.admitting import Admitting
from appliance.alone import Alone
from appliance.approvals import Approvals
from appliance.audit import files, profiles, retention, store
from appliance.audit.log import AuditLog
from appliance.auditing import Auditing
from appliance.catalog import Catalog
from appliance.certifying import Certifying
from appliance.clock import Clock, SystemClock
from appliance.config import Home, Settings
from appliance.control import ControlServer, Live
from appliance.copies import Copies
from appliance.core import ModelSpec, Role
from appliance.custody import Custody
from appliance.databases.base import Database
from appliance.doors import Doors
from appliance.engine.process import DEFAULT_COMMAND
from appliance.engine.supervisor import Engine
from appliance.engine.tunings import Tunings
from appliance.errors import InternalError, SetupError
from appliance.exporting import Exporting
from appliance.guarding import Guarding
from appliance.hosting import Hosted
from appliance.idempotency import Retries
from appliance.inference import Inference
from appliance.lives import Lives
from appliance.metrics import Metrics
from appliance.people import People, load_accounts, steward_of_people
from appliance.publishing import Publishing
from appliance.quotas import count_today
from appliance.readiness import Readiness
from appliance.refusals import Refusals
from appliance.reviewing import Reviewing
from appliance.searches import Searches
from appliance.selftest import SelfTest
from appliance.trends import Trends
from appliance.verification import Verifications
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
    engines: dict[str, Engine]
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
    doors: Doors
    readiness: Readiness
    certifying: Certifying | None  # where TLS is configured
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    def served(self) -> list[ModelSpec]:
        """The models that have a worker, in the catalogue's order."""
        return [spec for spec in self.catalog.list() if spec.id in self.engines]


def services_of(app: FastAPI) -> Services:
    """The services that `create_app` was given."""
    services = app.state.services
    if not isinstance(services, Services):
        raise InternalError("the application has no services")
    return services


def _load_keys(database: Database) -> list[ApiKey]:
    with db.reading(database) as connection:
        return tables.load(connection)


def _holders(audit: AuditLog, directory: Directory, register: Register, clock: Clock) -> list[Holder]:
    """Everybody who has a role here, wherever it is written; witnesses add their own."""
    now_us = clock.now_us()
    return [
        *(Holder(each.name, each.role, ACCOUNT) for each in register.all() if each.is_active(now_us)),
        *(Holder(each.name, each.role, API_KEY) for each in directory.all() if each.is_active(now_us)),
        # Whoever reads: the recovery key as well, which no operator may hold.
        *(Holder(each.name, Role.AUDITOR, KEY_POLICY) for each in audit.policy.readers),
    ]


@contextlib.contextmanager
def open_log_alone(home: Home, settings: Settings, clock: Clock | None = None) -> Iterator[Alone]:
    """Hold the lock, open the log (which recovers what a crash left open), close it at the end."""
    clock = clock or SystemClock()
    _require_profile(home, settings)
    audit = AuditLog.open(home, settings, clock, version=appliance.__version__)
    try:
        database = db.of(home, settings)
        directory = Directory(_load_keys(database))
        uses = Uses.recalled(home.key_uses, directory, clock)
        register = Register(load_accounts(database))
        witnessing: Witnessing

        def holders() -> list[Holder]:
            return [
                *_holders(audit, directory, register, clock),
                *(Holder(each, Role.WITNESS, PINNED_WITNESS) for each in witnessing.names()),
            ]

        duties = Duties(holders)
        witnessing = Witnessing(
            audit=audit,
            database=database,
            log=files.read_verifier(home),
            clock=clock,
            max_age_days=settings.audit.witness_max_age_days,
            duties=duties,
        )
        people = steward_of_people(
            audit, register, clock=clock, settings=settings, home=home, database=database, duties=duties
        )
        custody = Custody(
            audit=audit,
            directory=directory,
            home=home,
            database=database,
            clock=clock,
            periods=retention.periods(settings.audit.retention_days),
            share_backup_days=settings.audit.share_backup_days,
            crypto=settings.crypto.profile,
            duties=duties,
            responses=ResponseStore(home, clock, settings.responses),
        )
        auditing = Auditing(
            audit=audit,
            custody=custody,
            home=home,
            database=database,
            clock=clock,
            settings=settings.audit,
        )
        publishing = Publishing(audit=audit, database=database, directory=directory, clock=clock)

        def relearn() -> None:
            people.relearn()
            publishing.relearn()

        yield Alone(
            audit=audit,
            directory=directory,
            uses=uses,
            administration=Administration(
                audit=audit,
                directory=directory,
                clock=clock,
                verifications=Verifications(home, database, audit, settings.audit, clock),
                load_keys=lambda: _load_keys(database),
                catalog=lambda: Catalog.load(home=home, default_model=settings.default_model),
                documents=publishing.library,
                duties=duties,
                on_recovery=relearn,
            ),
            custody=custody,
            auditing=auditing,
            witnessing=witnessing,
            people=people,
            exporting=Exporting(home=home, database=database, record=auditing.recorded),
            hosted=Hosted(audit=audit, database=database, clock=clock, crypto=settings.crypto.profile),
            publishing=publishing,
        )
    finally:
        audit.close()


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
    catalog = Catalog.load(home=home, default_model=settings.default_model)
    spec = catalog.resolve("default")
    if spec is None:
        raise SetupError(
            "the default model is not in the catalogue",
            code="model_not_found",
            hint="default_model in appliance.toml must name a file in models/",
        )
    await asyncio.to_thread(catalog.verify, spec)
    if settings.engine.worker_socket:
        catalog.open_to_workers(spec, home)
    with open_log_alone(home, settings, clock) as alone:
        await configured.record(alone.audit, home, settings)
        certifying = None
        if settings.server.tls_certificate:
            certifying = Certifying(settings.server, alone.audit, clock, home)
            await certifying.begin()
        metrics = Metrics()
        recorder = Lives(alone.audit)
        engine = Engine(
            spec,
            settings.engine,
            clock=clock,
            on_event=recorder.on_event,
            command=worker_command or DEFAULT_COMMAND,
            tunings=Tunings(home.tuning, n_gpu_layers=settings.engine.n_gpu_layers),
        )
        engines = {spec.id: engine}
        inference = Inference(
            audit=alone.audit,
            catalog=catalog,
            engines=engines,
            admitting=Admitting(settings, engines=engines, clock=clock, metrics=metrics),
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
            engines=engines,
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
                SelfTest(audit=alone.audit, catalog=catalog, engines=engines, inference=inference),
                readiness,
                inference.admitting,
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
            engines=engines,
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
            asyncio.create_task(sampling.sample_for_ever(services.trends, metrics, engines, clock)),
        ]
        if certifying is not None:
            keepers.append(asyncio.create_task(certifying.watch_for_ever()))
        alone.administration.verifications.start()
        await engine.start()
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
            await engine.stop()
            await inference.drain(settings.audit.commit_timeout_seconds + 1)
            await refusals.stop()
            await recorder.settle()


def _require_profile(home: Home, settings: Settings) -> None:
    """SetupError where keys or readers have other algorithms than `crypto.profile` says."""
    place = db.of(home, settings)
    if db.schema(place).state is not db.SchemaState.CURRENT:
        return  # opening the log tells what is wrong with it
    with db.reading(place) as connection:
        policy = store.policies(connection)[-1] if store.num_entries(connection) else None
    if policy is not None:
        profiles.check_home(settings.crypto.profile, policy, has_second_key=files.has_second_key(home))


def _require_separation(home: Home, settings: Settings) -> None:
    """In production nobody who runs the box holds what reads its record. SetupError otherwise."""
    held = sorted(path.name for path in home.keys.glob("*.identity"))
    if settings.profile == "production" and held:
        raise SetupError(
            f"keys/ holds {', '.join(held)}: whoever runs this box could read the whole record",
            code="identity_on_box",
            hint="carry the file to a safe, or to the auditor whose it is, and delete it here",
        )
