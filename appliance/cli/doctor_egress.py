"""`appliance doctor --egress`: who the running appliance is connected to, and whether that is declared."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from appliance import asking, config, egress
from appliance.config import EMBEDDED, Home, Settings
from appliance.egress import Declared, Finding, Level
from appliance.errors import SetupError


def looks(home: Home, ports: Collection[int]) -> Iterator[tuple[str, Finding]]:
    """Each thing that was looked at, and what was found. SetupError where no gateway runs, or may be seen."""
    settings = config.load(home)
    pid = asking.gateway_pid(home.control_socket)
    if pid is None:
        raise SetupError("no gateway runs", code="not_running", hint="start the service, or: appliance serve")
    try:
        pids = egress.processes(pid)
        found = egress.sockets(pids)
        environment = egress.environment_of(pid)
    except PermissionError as error:
        raise SetupError(
            "another user's processes can not be looked at",
            code="not_permitted",
            hint="run this as root: what our processes hold is nobody else's to see",
        ) from error
    for each in egress.judge(found, _declared(settings, ports)):
        yield "sockets", each
    if settings.engine.worker_socket:
        says = "workers of their own user are not in this list: their unit gives them no network"
        yield "workers", Finding(Level.OK, says)
    for each in egress.switches(environment):
        yield "variables", each
    for each in egress.routes():
        yield "routes", each


def _declared(settings: Settings, given: Collection[int]) -> Declared:
    ports = {*given, settings.server.port} | ({settings.console.port} if settings.console.enabled else set())
    if settings.database_url == EMBEDDED:
        return Declared(ports)
    url = urlsplit(settings.database_url)
    return Declared(ports, (url.hostname or "localhost", url.port or 5432))
