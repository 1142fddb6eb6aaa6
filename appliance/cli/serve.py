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
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec
import uvicorn
import uvloop

from appliance import config
from appliance import log as logging_setup
from appliance.api.app import create_app
from appliance.cli.base import home_option, warn
from appliance.config import Home, Settings
from appliance.core import Role
from appliance.errors import SetupError
from appliance.services import Services, run_services

_RUN_KEY_SECONDS = 24 * 3600
_BACKLOG = 2048


@click.command()
@click.option("--host", help="Address to listen on (default: server.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port (default: server.port).")
@click.option("--log-file", metavar="FILE", help="Write the JSON log here, not to standard error.")
@click.option(
    "--kiosk-key",
    metavar="NAME",
    help="Make a kiosk key for 24 hours, replace the earlier one of this name, and print it with a "
    "curl line once the model answers.",
)
@home_option
def serve(
    host: str | None, port: int | None, log_file: str | None, kiosk_key: str | None, home: Home
) -> None:
    """Serve the API. Ends cleanly on SIGTERM or Ctrl-C.

    \b
    Example: appliance serve --home var --port 8080
    """
    settings = _with_options(config.load(home), host=host, port=port, log_file=log_file)
    run(home, settings, kiosk_key=kiosk_key)


def run(
    home: Home,
    settings: Settings,
    *,
    kiosk_key: str | None = None,
    worker_command: Sequence[str] | None = None,
) -> None:
    """Serve until a signal. Tests hand in another worker program; nothing else differs."""
    logging_setup.configure(settings.log)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # prompts and keys live in this memory
    if settings.profile == "dev":
        warn("profile 'dev': the auditor's identity lies in this home, so root can read the record")
    with (
        _listen(settings) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(home, settings, listener, kiosk_key, worker_command))


async def _serve(
    home: Home,
    settings: Settings,
    listener: socket.socket,
    kiosk_key: str | None,
    worker_command: Sequence[str] | None,
) -> None:
    async with run_services(home, settings, worker_command=worker_command) as services:
        server = _Server(
            uvicorn.Config(
                create_app(services),
                lifespan="off",
                access_log=False,  # the border writes one line per request, without query strings
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=settings.server.shutdown_grace_seconds,
                ssl_certfile=settings.server.tls_certificate or None,
                ssl_keyfile=settings.server.tls_key or None,
                http="httptools",
                ws="none",
                backlog=_BACKLOG,
            )
        )
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, server.handle_exit, each, None)
        announcer = asyncio.create_task(_announce(services, listener, kiosk_key))
        try:
            await server.serve(sockets=[listener])
        finally:
            announcer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await announcer


class _Server(uvicorn.Server):
    """uvicorn raises a caught signal anew when it is done, which would end the process before the
    log has its last entry: here a signal only asks it to stop.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _announce(services: Services, listener: socket.socket, kiosk_key: str | None) -> None:
    """Tell a person where to go, once it is true."""
    base = address_of(services.settings, listener)
    click.echo(f"listening on {base} (home {services.home.root})")
    spec = services.catalog.resolve("default")
    engine = services.engines[spec.id] if spec else None
    if spec is None or engine is None:
        return
    if not await engine.wait_ready(services.settings.engine.load_timeout_seconds):
        warn(f"{spec.id} is not ready: {engine.status.last_error}")
        return
    click.echo(f"{spec.id} is ready")
    if kiosk_key is not None:
        made = await services.administration.create_key(
            kiosk_key, Role.KIOSK, expires_seconds=_RUN_KEY_SECONDS, replace=True
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


def address_of(settings: Settings, listener: socket.socket) -> str:
    """The address that a client on this host types."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{'https' if settings.server.tls_certificate else 'http'}://{host}:{port}"


def _listen(settings: Settings) -> socket.socket:
    for path in (settings.server.tls_certificate, settings.server.tls_key):
        if path and not Path(path).is_file():
            raise SetupError(f"no such file: {path}", code="tls_missing")
    try:
        family = socket.AF_INET6 if ":" in settings.server.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.server.host, settings.server.port))
    except OSError as error:
        raise SetupError(
            f"can not listen on {settings.server.host}:{settings.server.port}: {error.strerror}",
            code="can_not_listen",
            hint="another program may hold the port; choose one with --port",
        ) from error
    listener.listen(_BACKLOG)
    return listener


def _with_options(
    settings: Settings, *, host: str | None, port: int | None, log_file: str | None
) -> Settings:
    server = settings.server
    if host is not None:
        server = msgspec.structs.replace(server, host=host)
    if port is not None:
        server = msgspec.structs.replace(server, port=port)
    log = msgspec.structs.replace(settings.log, file=log_file) if log_file else settings.log
    return msgspec.structs.replace(settings, server=server, log=log)
