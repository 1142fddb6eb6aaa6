"""Who stands up for an act of this program: an account's passphrase and code, typed or out of a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from appliance.alias_commands import Vouched
from appliance.errors import SetupError

_MAX_BYTES: Final = 4096
_F = TypeVar("_F", bound=Callable[..., Any])


def as_option(function: _F) -> _F:
    """`--as ACCOUNT`, and where its proof comes from."""
    account = click.option(
        "--as", "account", metavar="ACCOUNT", help="Who does it: an account of the console."
    )
    proof = click.option(
        "--proof",
        metavar="FILE",
        help="The account's passphrase, and its code in a second line, are in FILE (-: standard input; "
        "default: asked).",
    )
    return account(proof(function))


def vouched(account: str | None, proof: str | None) -> Vouched | None:
    """The account with its proof; None where none is named. SetupError where nobody can be asked."""
    if account is None:
        return None
    if proof is not None:
        passphrase, _, code = _text(proof).partition("\n")
        return Vouched(account=account, passphrase=passphrase.rstrip("\r"), code=code.strip())
    if sys.stdin is None or not sys.stdin.isatty():
        raise SetupError(
            "a passphrase is asked for at a terminal",
            code="no_terminal",
            hint="--proof FILE takes it out of a file (-: standard input)",
        )
    passphrase = str(click.prompt(f"passphrase of {account}", hide_input=True, err=True))
    asked = "code of the second factor (empty where there is none)"
    code = str(click.prompt(asked, default="", show_default=False, err=True))
    return Vouched(account=account, passphrase=passphrase, code=code.strip())


def _text(source: str) -> str:
    try:
        if source == "-":
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError("the proof can not be read", code="bad_proof") from error
    if len(data) > _MAX_BYTES:
        raise SetupError("the proof is longer than a passphrase and a code", code="bad_proof")
    return text
