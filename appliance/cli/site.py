"""`--root DIR`: which host a command is about, for those that are about a host and not about a home."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.bundle.layout import Site

_F = TypeVar("_F", bound=Callable[..., Any])

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


def who() -> str:
    """Who types: the user who logged in, else the account that runs this, whatever the environment says."""
    try:
        return os.getlogin()
    except OSError:  # no terminal
        pass
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # an account without a name, as containers have
        return str(os.getuid())


def site_option(function: _F) -> _F:
    """`--root DIR`, handed to the command as a `Site`; what is to lie there may not be there yet."""
    return _root(NEW_FOLDER)(function)


def host_option(function: _F) -> _F:
    """The same for commands about what lies on a host already: the folder must be there."""
    return _root(FOLDER)(function)


def _root(kind: click.Path) -> Callable[[_F], _F]:
    return click.option(
        "--root",
        "site",
        metavar="DIR",
        type=kind,
        default=Path("/"),
        callback=lambda _context, _parameter, value: Site(value),
        help="The host's root folder (default: /).",
    )
