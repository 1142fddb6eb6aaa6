"""`appliance init`: a home with configuration, keys, database and the first entries of its log."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

import appliance
from appliance import config, db, durable, keyring, resealing
from appliance.audit import files, profiles, safekeeping, store
from appliance.audit.entry import Entry
from appliance.audit.files import take_lock
from appliance.audit.kinds import Kind
from appliance.audit.policy import Reading, first_policy
from appliance.audit.recipients import Algorithms, Identity, Recipient, parse_recipient
from appliance.audit.sequencer import Sequencer, Start
from appliance.cli import unlocking
from appliance.cli.base import FILE, home_option, json_option, show, warn
from appliance.clock import SystemClock
from appliance.config import CryptoProfile, Home, Settings
from appliance.errors import SetupError
from appliance.resealing import NewWay

DEV_IDENTITY = "dev-auditor.identity"
_F = TypeVar("_F", bound=Callable[..., Any])


def owner_url_option(function: Any) -> Any:
    """`--owner-url URL`: who may change a server's schema, for this command only."""
    return click.option(
        "--owner-url",
        default="",
        metavar="URL",
        help="On PostgreSQL: log in as the schema's owner for this command; never stored.",
    )(function)


RECOVERY_IDENTITY = keyring.RECOVERY


@dataclass(frozen=True, slots=True)
class Members:
    """Whom the first key policy names: the public files that `init` was given."""

    auditors: Sequence[Recipient] = ()
    recovery: Sequence[Recipient] = ()  # none: init makes one, for the safe
    privacy: Sequence[Recipient] = ()
    reading: Reading = Reading.ANY


NOBODY = Members()


def _people_option(flag: str, says: str) -> Callable[[_F], _F]:
    """Public files of people, any number of them."""
    return click.option(flag, multiple=True, metavar="FILE", type=FILE, help=says)


@click.command()
@click.option(
    "--profile",
    type=click.Choice(["dev", "production"]),
    default="dev",
    show_default=True,
    help="'production' wants --auditor and TLS.",
)
@_people_option("--auditor", "An auditor's public file (repeatable): who will be able to read the record.")
@_people_option(
    "--recovery",
    "Public file of a key that lies in a safe (default: one is made, and must be carried there).",
)
@_people_option("--privacy", "Public file of somebody who signs erasures and reads nothing (repeatable).")
@click.option(
    "--reading",
    type=click.Choice([each.value for each in Reading]),
    default=Reading.ANY.value,
    show_default=True,
    help="How many readers it takes to open content.",
)
@click.option(
    "--crypto",
    type=click.Choice(["standard", "fips"]),
    default="standard",
    show_default=True,
    help="'fips': FIPS-approved algorithms only; readers' keys of P-256.",
)
@click.option(
    "--database-url",
    default="",
    metavar="URL",
    help="A PostgreSQL server for the record, as postgresql://USER@HOST/DATABASE (default: in the home).",
)
@owner_url_option
@click.option("--seal", is_flag=True, help="Seal the home's secrets under a passphrase, which is asked for.")
@click.option(
    "--seal-with",
    metavar="FILE",
    help="Seal them under the passphrase or credential in this file (-: standard input).",
)
@home_option
@json_option
def init(
    profile: Literal["dev", "production"],
    auditor: tuple[Path, ...],
    recovery: tuple[Path, ...],
    privacy: tuple[Path, ...],
    reading: str,
    crypto: CryptoProfile,
    database_url: str,
    owner_url: str,
    seal_with: str | None,
    home: Home,
    *,
    seal: bool,
    as_json: bool,
) -> None:
    """Set up a home; safe to run again.

    With --seal its disk opens nothing by itself: deploy/guides/secrets.md.

    \b
    Examples: appliance init
              appliance init --profile production --auditor alice.recipient --seal
              appliance init --profile production --reading 2-of-n \\
                --auditor alice.recipient --auditor bob.recipient --privacy carol.recipient
    """
    members = Members(
        auditors=_recipients(auditor),
        recovery=_recipients(recovery),
        privacy=_recipients(privacy),
        reading=Reading(reading),
    )
    wants_seal = (seal or seal_with is not None) and not keyring.is_sealed(home)
    result = initialise(
        home,
        profile=profile,
        members=members,
        crypto=crypto,
        database_url=database_url,
        owner_url=owner_url,
        way=unlocking.new_way(seal_with, crypto) if wants_seal else None,
    )
    if result["dev_identity"] and result["created"]:
        warn(
            f"profile 'dev' made an auditor's identity at {result['dev_identity']}: "
            "whoever reads this file reads the whole record; never do so in production"
        )
    if result["recovery_identity"]:
        warn(
            f"{result['recovery_identity']} reads the record when every auditor's key is lost: carry it to a "
            "safe and delete it here; profile 'production' does not serve before"
        )
    lines = [
        f"{'made' if result['created'] else 'found'} the home {home.root} ({result['profile']})",
        f"database: {result['database']}",
        f"log {result['origin']}, {result['entries']} entries, verifier key: {result['vkey']}",
        f"key policy, for paper: {result['policy_fingerprint']}",
        f"secrets: {'sealed' if result['sealed'] else 'in the clear; appliance secrets seal'}",
    ]
    show(result, lines, as_json=as_json)


def initialise(
    home: Home,
    *,
    profile: Literal["dev", "production"],
    members: Members = NOBODY,
    crypto: CryptoProfile = "standard",
    database_url: str = "",
    owner_url: str = "",
    way: NewWay | None = None,
) -> dict[str, Any]:
    """Make what is missing, keep what is there. SetupError where the two contradict each other.

    With a `way` the new home's secrets are sealed, from the first one on.
    """
    known = config.load(home) if home.config.exists() else None
    if known is not None and database_url not in {"", known.database_url}:
        raise SetupError(
            "appliance.toml names another database already",
            code="already_initialised",
            hint="a record is moved by a backup and a restore, not by init",
        )
    if home.lock.exists():  # an earlier run may have been interrupted
        lock = take_lock(home)
        try:
            db.settle(home.database)
        finally:
            os.close(lock)
    begun = _has_record(home, known)
    if begun and members != NOBODY:
        raise SetupError(
            "this home has its key policy already",
            code="already_initialised",
            hint="auditors are changed by a quorum of auditors, not by init",
        )
    if begun and way is not None:
        raise SetupError(
            "this home has its secrets already", code="already_initialised", hint="appliance secrets seal"
        )
    if known is not None:
        profile = known.profile
    if not begun and profile == "production" and not members.auditors:
        raise SetupError(
            "profile 'production' needs at least one auditor's public file",
            code="auditor_required",
            hint="auditors run: appliance auditor keygen NAME, and hand over NAME.recipient",
        )
    chosen = config.load(home).crypto.profile if home.config.exists() else crypto
    profiles.check_recipients(chosen, (*members.auditors, *members.recovery, *members.privacy))
    for directory in (home.root, home.keys, home.models, home.backups):
        durable.make_private_dir(directory)
    lock = take_lock(home)
    try:
        if not home.config.exists():
            durable.write_file(home.config, _first_config(profile, crypto, database_url).encode())
        settings = config.load(home)
        if not begun:
            if way is not None:
                resealing.establish(home, way)
            _lay_foundations(home, settings)
        return {"created": not begun, **_prepare(home, settings, members, owner_url)}
    finally:
        os.close(lock)


def _has_record(home: Home, settings: Settings | None) -> bool:
    """Whether the log has begun: a crash may have left its tables and its head without a first entry."""
    # Without a configuration there is no origin yet, so nothing of ours on any server.
    place = db.at(home.database) if settings is None else db.of(home, settings)
    state = db.schema(place).state
    if state is not db.SchemaState.CURRENT:
        return home.head.exists() or state is not db.SchemaState.ABSENT
    if home.head.exists() and files.head_size(home, files.read_verifier(home)):
        return True
    with db.reading(place) as connection:
        return store.num_entries(connection) > 0


def _lay_foundations(home: Home, settings: Settings) -> None:
    """Keys and latch, at the log's beginning only: a record that lost them is not given new ones."""
    files.create_keys(home, settings.crypto.profile)
    files.write_verifiers(home, files.load_keys(home, settings.audit.origin))
    files.Latch(home.latch).create()


def _prepare(home: Home, settings: Settings, members: Members, owner_url: str) -> dict[str, Any]:
    clock = SystemClock()
    database = db.of(home, settings, owner_url=owner_url)
    keys = files.load_keys(home, settings.audit.origin)
    identity_path, recovery_path = home.keys / DEV_IDENTITY, home.keys / RECOVERY_IDENTITY
    begun = _has_record(home, settings)
    if begun and db.schema(database).state is db.SchemaState.OLDER:
        files.require_open(home)  # the upgrade is an entry
    upgraded = db.upgrade(home, database, clock)
    sequencer = Sequencer(home, database, settings.audit, clock)
    try:
        if not begun:
            kind = profiles.algorithms_of(settings.crypto.profile)
            recovery = members.recovery or [_identity(home, recovery_path, "recovery", kind).recipient]
            auditors = members.auditors or [_identity(home, identity_path, "dev-auditor", kind).recipient]
            sequencer.pin_policy(first_policy(auditors, recovery, members.privacy, members.reading))
            if keyring.is_sealed(home):
                sequencer.commit([_sealed(home)])
            sequencer.write_head()
        else:
            sequencer.open(None if upgraded is None else Start(Kind.LOG_STARTED, _started()))
            if upgraded is not None:
                sequencer.commit([database_upgraded(upgraded)])
                sequencer.write_head()
        fingerprint = sequencer.policy.fingerprint if sequencer.policy else ""
        entries = sequencer.size
    finally:
        sequencer.close()
    return {
        "home": str(home.root),
        "profile": settings.profile,
        "database": str(database),
        "origin": settings.audit.origin,
        "entries": entries,
        "vkey": keys.signer.verifier.text(),
        "policy_fingerprint": fingerprint,
        "sealed": keyring.is_sealed(home),
        "dev_identity": str(identity_path) if identity_path.exists() else "",
        "recovery_identity": str(recovery_path) if recovery_path.exists() else "",
    }


def database_upgraded(upgraded: db.Upgrade) -> Entry:
    """The record of a schema upgrade."""
    return Entry(
        kind=Kind.DATABASE_UPGRADED,
        public={
            "from_revision": upgraded.from_revision or "",
            "to_revision": upgraded.to_revision,
            "backup_sha256": upgraded.backup_sha256,
        },
    )


def _started() -> dict[str, str | int]:
    return {"version": appliance.__version__}


def _sealed(home: Home) -> Entry:
    ways = keyring.slots_of(home).ways
    names = {kind: [each.name for each in ways if each.way == kind] for kind in ("passphrase", "credential")}
    return safekeeping.changed("sealed", names["passphrase"], names["credential"])


def _recipients(paths: Sequence[Path]) -> tuple[Recipient, ...]:
    return tuple(parse_recipient(path.read_text(encoding="utf-8")) for path in paths)


def _identity(home: Home, path: Path, name: str, algorithms: Algorithms) -> Identity:
    identity = Identity.generate(name, algorithms)
    keyring.write(home, path, identity.text().encode())
    return identity


def _first_config(profile: str, crypto: CryptoProfile, database_url: str) -> str:
    if database_url and not config.is_server(database_url):
        raise SetupError("--database-url must begin with postgresql://", code="bad_config")
    origin = f"appliance-{secrets.token_hex(4)}/audit/1"
    # A JSON string is a TOML string.
    server = f"database_url = {json.dumps(database_url)}\n" if database_url else ""
    tls = (
        '\n[server]\n# required in this profile\ntls_certificate = ""\ntls_key = ""\n'
        if profile == "production"
        else ""
    )
    return (
        "# Every setting and its default: deploy/appliance.example.toml\n"
        f'profile = "{profile}"\n'
        f"{server}"
        f"{tls}\n[audit]\n# names this log for ever: it is part of every checkpoint\n"
        f'origin = "{origin}"\n' + (f'\n[crypto]\nprofile = "{crypto}"\n' if crypto != "standard" else "")
    )
