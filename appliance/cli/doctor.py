"""`appliance doctor`: every check before serving, one line each, and what to do about a red one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from cryptography.hazmat.backends.openssl import backend

from appliance import config, db, readiness
from appliance.audit import checkpoint, files, profiles, store, surroundings
from appliance.bundle import preflight
from appliance.bundle.layout import Site
from appliance.certifying import clients_of, state_of
from appliance.cli import doctor_device, doctor_egress, doctor_gateway, doctor_sandbox, doctor_secrets
from appliance.cli.base import command_gateway, database_of, home_option, json_option, show
from appliance.clock import SystemClock
from appliance.commands import SelfTest
from appliance.config import Home, Settings
from appliance.egress import Level
from appliance.errors import ApplianceError, InternalError, SetupError
from appliance.modelling import catalog_of
from appliance.tls.serving import Files, Serving

_LOW_DISK_BYTES = 1 << 30
_PRIVATE = 0o077
_SIGNS = {"ok": "ok   ", "warn": "warn ", "fail": "RED  "}


@dataclass(frozen=True, slots=True)
class Check:
    """One look at the host or the home."""

    name: str
    is_green: bool
    says: str
    hint: str = ""
    is_warning: bool = False  # green, and a person should know it

    @property
    def level(self) -> str:
        """`ok`, `warn` or `fail`."""
        if not self.is_green:
            return "fail"
        return "warn" if self.is_warning else "ok"


@click.command()
@click.option("--live", is_flag=True, help="Ask the running gateway for its own test: one short answer.")
@click.option("--egress", is_flag=True, help="List what the running gateway and its workers connect to.")
@click.option(
    "--declare",
    "ports",
    type=click.IntRange(1, 65_535),
    multiple=True,
    help="With --egress: a port that `appliance serve` was given as an option; repeatable.",
)
@click.option("--no-answer", is_flag=True, hidden=True, help="With --live: only whether it could give one.")
@home_option
@json_option
def doctor(
    home: Home, ports: tuple[int, ...], *, live: bool, egress: bool, no_answer: bool, as_json: bool
) -> None:
    """Check this home and host; exit code 1 where something would keep it from serving.

    Of the host (deploy/guides/host.md): the checks that the installer makes, too. A line that begins with
    "warn" keeps nothing from serving.

    With --live a running gateway tests itself: ready, and one answer of the model, which is on the record.

    With --egress nothing is sent: every socket of the gateway and its workers must be one that the
    configuration declares, no proxy may stand in its environment, and a default route is told.

    \b
    Examples: appliance doctor
              appliance doctor --live
              appliance doctor --egress
    """
    if egress:
        _show(
            [
                Check(name, each.level is not Level.FAIL, each.says, is_warning=each.level is Level.WARN)
                for name, each in doctor_egress.looks(home, ports)
            ],
            as_json=as_json,
        )
        return
    if live:
        found = command_gateway(home, SelfTest(generate=not no_answer))
        said = f", answer on the record as {found['record']}" if "record" in found else ""
        show(found, [f"ok   {found['model']} is ready, {found['tree_size']} entries{said}"], as_json=as_json)
        return
    _show(examine(home), as_json=as_json)


def _show(checks: list[Check], *, as_json: bool) -> None:
    """Each on a line; exit code 1 where one is red."""
    lines = [
        f"{_SIGNS[each.level]}{each.name}: {each.says}"
        + (f"\n     {each.hint}" if each.hint and each.level != "ok" else "")
        for each in checks
    ]
    result = {
        "green": all(each.is_green for each in checks),
        "checks": [
            {
                "name": each.name,
                "green": each.is_green,
                "level": each.level,
                "says": each.says,
                "hint": each.hint,
            }
            for each in checks
        ],
    }
    show(result, lines, as_json=as_json)
    if not result["green"]:
        sys.exit(1)


def examine(home: Home) -> list[Check]:
    """Every check; a later one may need an earlier one, and says so by being red itself."""
    looks: list[tuple[str, Callable[[Home], str]]] = [
        ("configuration", _configuration),
        ("private files", _private_files),
        ("log keys", _log_keys),
        ("database", _database),
        ("head file", _head_file),
        ("latch", _latch),
        ("algorithms", _algorithms),
        ("model", _model),
        ("worker", _worker),
        ("tls", _tls),
        ("disk", _disk),
        ("file system", _filesystem),
    ]
    home.unlocking.ask = None  # nobody is asked: what is sealed is looked into with --unlock
    checks = [_look(name, look, home) for name, look in looks]
    return [
        *checks,
        _sandbox(home),
        _devices(home),
        *_secrets_checks(home),
        *_gateway_checks(home),
        *_server_checks(home),
        *_host_checks(home),
    ]


def _gateway_checks(home: Home) -> list[Check]:
    """Of the running gateway; nothing where none runs, or the home is none."""
    if not home.root.exists():
        return []
    return [
        Check(name, is_green=True, says="it runs and is ready, as /readyz says")
        if each is None
        else Check(name, is_green=not each.stops, says=each.says, hint=each.hint, is_warning=True)
        for name, each in doctor_gateway.looks(home)
    ]


def _secrets_checks(home: Home) -> list[Check]:
    """Whether the disk gives them away; none where there is no home."""
    try:
        return [
            Check(name, found.level is not Level.FAIL, found.says, hint, is_warning=found.level is Level.WARN)
            for name, found, hint in doctor_secrets.looks(home)
        ]
    except (ApplianceError, OSError) as error:
        says = error.message if isinstance(error, ApplianceError) else str(error.strerror)
        return [Check("secrets", is_green=False, says=says)]


def _host_checks(home: Home) -> list[Check]:
    """Of the host, as the installer looks at it; with defaults where the configuration can not be read."""
    settings = _settings(home)
    ports = {settings.server.port} | ({settings.console.port} if settings.console.enabled else set())
    return [
        Check(
            each.name,
            is_green=each.level is not preflight.Level.FAIL,
            says=each.found,
            hint=each.fix,
            is_warning=each.level is preflight.Level.WARN,
        )
        for each in preflight.run(
            None,
            Site(),
            home=home.root,
            ports=sorted(ports - {0}),
            needs_gpu=settings.engine.device == "cuda",
        )
    ]


def _server_checks(home: Home) -> list[Check]:
    """Of PostgreSQL, where the configuration names one; what is wrong with that is told already."""
    try:
        place = database_of(home)
    except ApplianceError:
        return []
    if place.dialect == "sqlite":
        return []
    from appliance.cli import doctor_server  # noqa: PLC0415 - the driver is loaded where it is used
    from appliance.databases.postgres import PostgresSchema  # noqa: PLC0415

    if not isinstance(place, PostgresSchema):
        raise InternalError("a database of an unknown kind")
    return [_check(name, look) for name, look in doctor_server.looks(place)]


def _look(name: str, look: Callable[[Home], str], home: Home) -> Check:
    return _check(name, lambda: look(home))


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, is_green=True, says=look())
    except ApplianceError as error:
        return Check(name, is_green=False, says=error.message, hint=error.hint)
    except OSError as error:
        return Check(name, is_green=False, says=f"{type(error).__name__}: {error.strerror}")


def _configuration(home: Home) -> str:
    settings = config.load(home)
    return f"{home.config}, profile {settings.profile}"


def _private_files(home: Home) -> str:
    config.load(home)
    public = {home.keys / files.VERIFIER, home.keys / files.SECOND_VERIFIER}
    found = [
        path
        for path in (home.root, home.keys, *home.root.glob("*.db*"), *home.keys.iterdir())
        if path not in public and path.stat().st_mode & _PRIVATE
    ]
    if found:
        names = ", ".join(str(path) for path in found)
        raise SetupError(f"others can read {names}", code="not_private", hint="chmod go-rwx them")
    return "readable by their owner only"


def _log_keys(home: Home) -> str:
    if not doctor_secrets.is_looked_into(home):
        return "sealed; with --unlock FILE they are looked at, too"
    keys = files.load_keys(home, config.load(home).audit.origin)
    if files.read_verifiers(home.keys) != keys.verifiers:
        raise SetupError("keys/log.vkey is not the public half of the log's key", code="log_keys")
    return " ".join(each.text() for each in keys.verifiers)


def _database(home: Home) -> str:
    return f"schema {db.require_current(database_of(home)).revision}"


def _head_file(home: Home) -> str:
    head = checkpoint.open_checkpoint(files.read_head(home), *files.read_verifiers(home.keys))
    return f"remembers {head.size} entries"


def _algorithms(home: Home) -> str:
    settings = config.load(home)
    profile = settings.crypto.profile
    with db.reading(db.of(home, settings)) as connection:
        policy = store.policies(connection)[-1]
    profiles.check_home(profile, policy, has_second_key=files.has_second_key(home))
    module = f"{backend.openssl_version_text()}, {profiles.module()}"
    return "\n     ".join([f"profile {profile}", module, *profiles.lines_of(profile)])


def _latch(home: Home) -> str:
    if reason := files.Latch(home.latch).reason():
        raise doctor_gateway.problem_of(readiness.closed_log(reason))
    return "the log is open"


def _model(home: Home) -> str:
    settings = config.load(home)
    catalog = catalog_of(home, settings)
    spec = catalog.resolve("default")
    if spec is None:
        raise SetupError("no default model", code="model_not_found")
    catalog.verify(spec)
    return f"{spec.id} is in the store, sha256 as pinned"


def _worker(home: Home) -> str:
    settings = config.load(home)
    path = settings.engine.worker_socket
    if not path:
        return "a child of the gateway, with its user"
    if not Path(path).is_socket():
        raise SetupError(
            f"engine.worker_socket: no socket at {path}",
            code="worker_missing",
            hint="systemctl enable --now appliance-worker.socket; without systemd leave the key empty",
        )
    if not os.access(path, os.W_OK):
        raise SetupError(f"can not connect to {path}", code="worker_closed", hint="run this as its user")
    return f"of its own user and sandbox, behind {path}"


def _sandbox(home: Home) -> Check:
    """Of a worker that the gateway starts."""
    engine = _settings(home).engine
    says, hint, can_load = doctor_sandbox.judge(doctor_sandbox.look(engine), engine)
    return Check("sandbox", is_green=can_load, says=says, hint=hint, is_warning=bool(hint))


def _devices(home: Home) -> Check:
    """What will compute; a worker says what does."""
    says, hint, can_load = doctor_device.judge(doctor_device.look(), _settings(home).engine)
    return Check("devices", is_green=can_load, says=says, hint=hint, is_warning=bool(hint))


def _settings(home: Home) -> Settings:
    """Defaults where the configuration can not be read: that is told by another check."""
    try:
        return config.load(home)
    except ApplianceError:
        return Settings()


def _tls(home: Home) -> str:
    server = config.load(home).server
    if not server.tls_certificate:
        return "off (profile dev)"
    clock = SystemClock()
    if doctor_secrets.is_key_sealed(home):
        return f"{server.certificate}; its key is sealed, and looked at with --unlock FILE"
    files = Files(server.certificate, server.key, server.tls_oldest, home)
    serving = Serving(files, clock, clients_of(server))
    about = serving.about
    found = readiness.certificate(state_of(serving, clock.now_us()), about.ends_at, serving.problem)
    if found is not None and found.stops:
        raise doctor_gateway.problem_of(found)
    return f"{', '.join(about.names) or about.subject}, until {about.not_after:%Y-%m-%d}"


def _filesystem(home: Home) -> str:
    settings = config.load(home)
    surroundings.check_filesystem(home, settings)
    return f"{surroundings.filesystem_of(home.root)}, profile {settings.profile}"


def _disk(home: Home) -> str:
    free = shutil.disk_usage(home.root if home.root.exists() else home.root.parent).free
    if free < _LOW_DISK_BYTES:
        raise SetupError(
            f"{free >> 20} MiB are free", code="disk_low", hint="a full disk closes the log: free some"
        )
    return f"{free >> 30} GiB free"
