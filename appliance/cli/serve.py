"""`appliance serve`: the gateway, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click
import msgspec
import uvicorn
import uvloop
from starlette.types import ASGIApp

from appliance import config, keyring, unseen
from appliance import log as logging_setup
from appliance.api.app import create_app
from appliance.api.listening.listener import Port
from appliance.cli.base import home_option, warn
from appliance.config import Home, Settings
from appliance.console.app import create_console, new_sessions
from appliance.core import PEOPLE, ModelSpec, Role
from appliance.errors import ApplianceError, SetupError
from appliance.services import Services, run_services

_RUN_KEY_SECONDS = 24 * 3600
_BACKLOG = 2048
_OTHER_FILES: Final = 512  # databases, workers, logs: beside the connections
# What the kernel keeps for a client that does not read, of each connection; it doubles the number.
_SEND_BUFFER_BYTES: Final = 128 * 1024


@click.command()
@click.option("--host", help="Address to listen on (default: server.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port (default: server.port).")
@click.option("--console-port", type=click.IntRange(0, 65535), help="The console's (default: console.port).")
@click.option("--log-file", metavar="FILE", help="Write the JSON log here, not to standard error.")
@click.option(
    "--kiosk-key",
    metavar="NAME",
    help="Make a kiosk key for 24 hours, replace the earlier one of this name, and print it with a "
    "curl line once the model answers.",
)
@click.option(
    "--console-accounts",
    is_flag=True,
    help="Make an account of each role for 24 hours, named as its role, replace the earlier ones, and print "
    "their passphrases for the first log-in.",
)
@home_option
def serve(
    host: str | None,
    port: int | None,
    console_port: int | None,
    log_file: str | None,
    kiosk_key: str | None,
    home: Home,
    *,
    console_accounts: bool,
) -> None:
    """Serve the API and the console. Ends cleanly on SIGTERM or Ctrl-C.

    \b
    Example: appliance serve --home var --port 8080
    """
    settings = _with_options(
        config.load(home), host=host, port=port, console_port=console_port, log_file=log_file
    )
    run(home, settings, kiosk_key=kiosk_key, console_accounts=console_accounts)


def run(
    home: Home,
    settings: Settings,
    *,
    kiosk_key: str | None = None,
    console_accounts: bool = False,
    worker_command: Sequence[str] | None = None,
) -> None:
    """Serve until a signal. Tests hand in another worker program; nothing else differs."""
    logging_setup.configure(settings.log)
    os.umask(0o077)
    unseen.close_memory()  # prompts and keys live in it
    unseen.gain_nothing()
    _make_room_for(settings.server.max_connections)
    if keyring.is_sealed(home):
        keyring.unlock(home)  # while somebody may still be asked
    if settings.profile == "dev":
        warn("profile 'dev': the auditor's identity lies in this home, so root can read the record")
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(_listen(settings.server.host, settings.server.port))
        console = None
        if settings.console.enabled:
            console = stack.enter_context(_listen(settings.console.host, settings.console.port))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        making = _Making(kiosk_key, console_accounts=console_accounts)
        runner.run(_serve(home, settings, _Listeners(api, console), making, worker_command))


@dataclass(frozen=True, slots=True)
class _Listeners:
    api: socket.socket
    console: socket.socket | None


@dataclass(frozen=True, slots=True)
class _Making:
    """What is made and shown once the model answers, for somebody who tries the appliance."""

    kiosk_key: str | None = None
    console_accounts: bool = False


async def _serve(
    home: Home,
    settings: Settings,
    listeners: _Listeners,
    making: _Making,
    worker_command: Sequence[str] | None,
) -> None:
    async with run_services(home, settings, worker_command=worker_command) as services:
        api = create_app(services)
        sessions = new_sessions(services)
        sessions.start()
        guard = services.doors.guard
        servers = [(_port(services, guard(api), "req_", asks=True), listeners.api)]
        if listeners.console is not None:
            console = guard(create_console(services, sessions, api))
            servers.append((_port(services, console, "con_", asks=False), listeners.console))
        loop = asyncio.get_running_loop()
        ending = _Ending(services, [server for server, _ in servers])
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, ending.signalled, each)
        announcer = asyncio.create_task(_announce(services, listeners, making))
        try:
            await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in servers))
        finally:
            announcer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await announcer
            await sessions.stop()


def _port(services: Services, app: ASGIApp, prefix: str, *, asks: bool) -> Port:
    """`asks`: for the certificates of clients, where that is configured. People have passphrases."""
    certifying = services.certifying
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,  # the border writes one line per request, without query strings
        log_config=None,
        server_header=False,
        proxy_headers=False,  # where a call comes from is on the record: nobody but its socket says it
        timeout_graceful_shutdown=services.settings.server.shutdown_grace_seconds,
        ws="none",
    )
    if certifying is None:
        return Port(config, services, None, prefix=prefix)
    serving = certifying.serving
    return Port(config, services, lambda: serving.asking if asks else serving.context, prefix=prefix)


class _Ending:
    """What a signal does. The first: nothing new is admitted, and what runs may end within
    `server.shutdown_grace_seconds`; all the while callers are answered, and told so. The second: at once.
    """

    def __init__(self, services: Services, servers: Sequence[Port]) -> None:
        self._services = services
        self._servers = servers
        self._task: asyncio.Task[None] | None = None

    def signalled(self, number: int) -> None:
        """Called by the loop."""
        grace_seconds = self._services.settings.server.shutdown_grace_seconds
        if self._task is not None:
            self._task.cancel()
            grace_seconds = 0
        self._task = asyncio.create_task(self._end(number, grace_seconds))

    async def _end(self, number: int, grace_seconds: int) -> None:
        clock = self._services.clock
        began_us = clock.monotonic_us()
        await self._services.inference.stop(grace_seconds)
        left = grace_seconds - (clock.monotonic_us() - began_us) // 1_000_000
        for each in self._servers:
            each.config.timeout_graceful_shutdown = max(1, left)  # of the same time, for what is sent yet
            each.handle_exit(number, None)


async def _announce(services: Services, listeners: _Listeners, making: _Making) -> None:
    """Tell a person where to go, once it is true."""
    base = address_of(services.settings, listeners.api)
    click.echo(f"listening on {base} (home {services.home.root})")
    if listeners.console is not None:
        click.echo(f"console on {address_of(services.settings, listeners.console)}")
    if making.console_accounts:
        await _make_accounts(services)
    spec = services.catalog.resolve("default")
    if spec is None:
        return
    if problem := await _until_ready(services, spec):
        warn(f"{spec.id} is not ready: {problem}")
        return
    click.echo(f"{spec.id} is ready")
    if making.kiosk_key is not None:
        made = await services.administration.create_key(
            making.kiosk_key, Role.KIOSK, expires_seconds=_RUN_KEY_SECONDS, replace=True
        )
        body = json.dumps(
            {"model": "default", "messages": [{"role": "user", "content": "What is a tax return?"}]}
        )
        click.echo(f"kiosk key (24 hours, shown this once): {made.new.token}")
        click.echo("try it, in another terminal:")
        click.echo(
            f"curl -sS {base}/v1/chat/completions -H 'authorization: Bearer {made.new.token}' "
            f"-H 'content-type: application/json' -d '{body}'"
        )
    sys.stdout.flush()


async def _until_ready(services: Services, spec: ModelSpec) -> str:
    """Empty once the model answers; what is wrong with it otherwise."""
    try:
        async with services.fleet.lease(spec, seconds=services.settings.engine.load_timeout_seconds):
            return ""
    except ApplianceError as error:
        return services.fleet.standing(spec).says or error.message


async def _make_accounts(services: Services) -> None:
    click.echo("console accounts (24 hours; each passphrase is shown this once, for the first log-in):")
    for role in PEOPLE:
        made = await services.people.create(str(role), role, expires_seconds=_RUN_KEY_SECONDS, replace=True)
        click.echo(f"  {made.account.name:<10}{made.passphrase}")
    sys.stdout.flush()


def address_of(settings: Settings, listener: socket.socket) -> str:
    """The address that a client on this host types."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{'https' if settings.server.tls_certificate else 'http'}://{host}:{port}"


def _make_room_for(connections: int) -> None:
    """As many open files as both ports may need, where the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # its connections', too
        listener.bind((host, port))
    except OSError as error:
        raise SetupError(
            f"can not listen on {host}:{port}: {error.strerror}",
            code="can_not_listen",
            hint="another program may hold the port; choose one with --port or --console-port",
        ) from error
    listener.listen(_BACKLOG)
    return listener


def _with_options(
    settings: Settings,
    *,
    host: str | None,
    port: int | None,
    console_port: int | None,
    log_file: str | None,
) -> Settings:
    server = settings.server
    if host is not None:
        server = msgspec.structs.replace(server, host=host)
    if port is not None:
        server = msgspec.structs.replace(server, port=port)
    console = settings.console
    if console_port is not None:
        console = msgspec.structs.replace(console, port=console_port)
    log = msgspec.structs.replace(settings.log, file=log_file) if log_file else settings.log
    return msgspec.structs.replace(settings, server=server, console=console, log=log)
