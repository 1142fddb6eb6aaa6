"""The voice of the program, and what every command shares: `--home`, `--json`, the gateway."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from appliance import asking, config
from appliance.bundle.refusals import BundleRefused
from appliance.cli import unlocking
from appliance.commands import Answer, Command, Done, Problem
from appliance.config import Home
from appliance.errors import (
    ApplianceError,
    AuditUnavailable,
    InternalError,
    RequestError,
    SetupError,
    Unavailable,
    VerificationError,
)

if TYPE_CHECKING:
    from appliance.databases.base import Database

# Controls but tab and line feed, and the marks that turn the direction of writing.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_F = TypeVar("_F", bound=Callable[..., Any])
_EXIT_CODES: tuple[tuple[type[ApplianceError], int], ...] = (
    (VerificationError, 1),
    (RequestError, 2),
    (SetupError, 3),
    (Unavailable, 4),
    (InternalError, 70),
)

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)

_FAMILIES: dict[str, type[ApplianceError]] = {
    each.__name__: each
    for each in (VerificationError, RequestError, SetupError, Unavailable, AuditUnavailable, InternalError)
}


def report(error: ApplianceError) -> int:
    """Say what went wrong and what to do; the exit code for it."""
    click.echo(f"appliance: error: {error.message}", err=True)
    if error.hint:
        click.echo(f"appliance: hint: {error.hint}", err=True)
    if isinstance(error, BundleRefused):
        return int(error.exit)
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def home_option(function: _F) -> _F:
    """`--home DIR`, handed to the command as a `Home`; `--unlock FILE`, which may open its secrets."""
    home = click.option(
        "--home",
        metavar="DIR",
        callback=lambda context, _parameter, value: unlocking.sourced(context, config.find_home(value)),
        help="The appliance's home (default: $APPLIANCE_HOME, else ./var).",
    )
    unlock = click.option(
        "--unlock",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=unlocking.remember,
        help="A sealed home's passphrase or credential is in FILE (-: standard input; default: asked).",
    )
    return home(unlock(function))


def json_option(function: _F) -> _F:
    """`--json`: one JSON document on standard output, for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def require_new(*paths: Path) -> None:
    """RequestError where one of them is there already."""
    for path in paths:
        if path.exists():
            raise RequestError(f"{path} exists; it is not overwritten", code="file_exists")


def microseconds(moment: datetime | None) -> int | None:
    """A moment that an option gave, which means UTC; None for none."""
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp() * 1_000_000)


def show(result: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    """The result for a program, or the lines for a person; neither can steer the terminal."""
    if as_json:
        text = json.dumps(result, ensure_ascii=False, indent=2)
        click.echo(_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text))
    else:
        for line in lines:
            click.echo(safe(line))


def safe(text: str) -> str:
    """Content is foreign: control characters could rewrite the auditor's screen (ASVS 16.4.1)."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def on_one_line(text: str) -> str:
    """`safe`, for what may not begin a line of its own."""
    return safe(text).replace("\n", "\\n")


def warn(message: str) -> None:
    """Something the operator must know, on standard error."""
    click.echo(f"appliance: warning: {message}", err=True)


def database_of(home: Home, copy: Path | None = None) -> Database:
    """The copy that was named, or else the home's own database."""
    from appliance import db  # noqa: PLC0415 - whoever only asks a running gateway needs no database

    return db.at(copy) if copy is not None else db.of(home, config.load(home))


def command_gateway(home: Home, command: Command, *, timeout_seconds: float = 60) -> dict[str, Any]:
    """Have a command carried out: by the running gateway, in this time, or here where none runs."""
    settings = config.load(home)
    answer: Answer | None = asking.send(home.control_socket, command, timeout_seconds=timeout_seconds)
    if answer is None:
        answer = asyncio.run(_perform_alone(home, settings, command))
    return done(answer)


def done(answer: Answer) -> dict[str, Any]:
    """What an act came to; raises what it failed with."""
    match answer:
        case Done():
            return answer.result
        case Problem():
            branch = _FAMILIES.get(answer.family, RequestError)
            raise branch(answer.message, code=answer.code, hint=answer.hint)


async def _perform_alone(home: Home, settings: config.Settings, command: Command) -> Answer:
    from appliance import performing  # noqa: PLC0415 - as above
    from appliance.alone import open_log_alone  # noqa: PLC0415

    with open_log_alone(home, settings) as alone:
        return await performing.perform(command, alone)


def when(microseconds: int | None) -> str:
    """UTC, to the second, for people; an empty string for none, the number beyond the calendar."""
    if microseconds is None:
        return ""
    try:
        moment = datetime.fromtimestamp(microseconds / 1e6, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return str(microseconds)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their longest cell."""
    rows = [tuple(map(on_one_line, row)) for row in rows]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
