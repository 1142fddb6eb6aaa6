"""What an appliance is without a gateway: the log and everybody who changes something through it.

The running gateway has one of these, and so has the `appliance` program while no gateway runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import appliance
from appliance import db
from appliance.accounts import tables
from appliance.accounts.accounts import Register
from appliance.accounts.directory import Directory
from appliance.accounts.duties import ACCOUNT, API_KEY, KEY_POLICY, PINNED_WITNESS, Duties, Holder
from appliance.accounts.keys import ApiKey
from appliance.accounts.stored import ResponseStore
from appliance.accounts.uses import Uses
from appliance.administration import Administration
from appliance.aliasing import Aliasing
from appliance.audit import files, profiles, retention, store
from appliance.audit.log import AuditLog
from appliance.auditing import Auditing
from appliance.catalog import Catalog
from appliance.clock import Clock, SystemClock
from appliance.config import Home, Settings
from appliance.core import Role
from appliance.custody import Custody
from appliance.databases.base import Database
from appliance.evaluations import Evaluations
from appliance.exporting import Exporting
from appliance.hosting import Hosted
from appliance.modelling import Modelling
from appliance.people import People, load_accounts, steward_of_people
from appliance.publishing import Publishing
from appliance.verification import Verifications
from appliance.witnessing import Witnessing


@dataclass(frozen=True, slots=True)
class Alone:
    """The log, open for writing, and its stewards. `open_log_alone` makes and closes it."""

    audit: AuditLog
    directory: Directory
    uses: Uses
    administration: Administration
    custody: Custody
    auditing: Auditing
    witnessing: Witnessing
    people: People
    exporting: Exporting
    hosted: Hosted
    publishing: Publishing
    modelling: Modelling
    aliasing: Aliasing
    evaluations: Evaluations


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
    require_profile(home, settings)
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
        modelling = Modelling(
            audit=audit,
            database=database,
            home=home,
            catalog=Catalog.load(home=home, default_model=settings.default_model),
            clock=clock,
        )

        def relearn() -> None:
            people.relearn()
            publishing.relearn()
            modelling.relearn()

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
                catalog=lambda: modelling.catalog,
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
            modelling=modelling,
            aliasing=Aliasing(
                audit=audit, modelling=modelling, directory=directory, settings=settings, clock=clock
            ),
            evaluations=Evaluations(audit=audit, modelling=modelling, clock=clock),
        )
    finally:
        audit.close()


def require_profile(home: Home, settings: Settings) -> None:
    """SetupError where keys or readers have other algorithms than `crypto.profile` says."""
    place = db.of(home, settings)
    if db.schema(place).state is not db.SchemaState.CURRENT:
        return  # opening the log tells what is wrong with it
    with db.reading(place) as connection:
        policy = store.policies(connection)[-1] if store.num_entries(connection) else None
    if policy is not None:
        profiles.check_home(settings.crypto.profile, policy, has_second_key=files.has_second_key(home))
