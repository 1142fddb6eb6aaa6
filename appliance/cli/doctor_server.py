"""What `appliance doctor` asks a database server: version, way, settings, roles, clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appliance.clock import SystemClock
from appliance.databases import postgres
from appliance.databases.postgres import PostgresSchema
from appliance.errors import SetupError

MAX_CLOCK_SECONDS = 2.0
_VERIFIED = {"verify-ca", "verify-full"}
_LOCAL = {"", "localhost", "127.0.0.1", "::1"}


def looks(place: PostgresSchema) -> list[tuple[str, Callable[[], str]]]:
    """Each look at the server, by name. They raise SetupError where something is not as it must be."""
    return [
        ("database server", lambda: _server(place)),
        ("database way", lambda: _way(place)),
        ("database settings", lambda: place.connect_once(lambda raw: _settings(place, raw))),
        ("database roles", lambda: place.connect_once(lambda raw: _roles(place, raw))),
        ("database clock", lambda: place.connect_once(_clock)),
    ]


def _server(place: PostgresSchema) -> str:
    return f"{place.version()}, {place}"


def _way(place: PostgresSchema) -> str:
    hosts = place.parameters.get("host", "").split(",")
    remote = [host for host in hosts if host not in _LOCAL and not host.startswith(("/", "@"))]
    if not remote:
        return "stays on this host"
    if place.parameters.get("sslmode") in _VERIFIED:
        return "TLS, the server's certificate is checked"
    if place.profile == "production":
        raise SetupError(
            f"the way to {', '.join(remote)} is not proven to end there",
            code="tls_required",
            hint="put sslmode=verify-full and sslrootcert=FILE into database_url",
        )
    return "TLS without a check of the server's certificate, or none (profile dev)"


def _settings(place: PostgresSchema, raw: Any) -> str:
    if unsafe := place.unsafe_settings(raw):
        raise SetupError(
            f"the server would lose acknowledged records: {', '.join(unsafe)}",
            code="database_settings",
            hint="put them back to their defaults in postgresql.conf",
        )
    commit = postgres.show(raw, "synchronous_commit")
    return f"fsync and full_page_writes are on, synchronous_commit is {commit}"


def _roles(place: PostgresSchema, raw: Any) -> str:
    return place.roles.become_writer(raw, profile=place.profile)


def _clock(raw: Any) -> str:
    (theirs,) = raw.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
    apart = abs(float(theirs) - SystemClock().now_us() / 1e6)
    if apart > MAX_CLOCK_SECONDS:
        raise SetupError(
            f"the server's clock is {apart:.1f} s from ours",
            code="clock_apart",
            hint="the record's times are this host's; give both one source of time",
        )
    return f"{apart:.1f} s from ours"
