"""How people and programs hand over what opens a sealed home: at the terminal, or in a file; never as a word
of a command or in the environment, which others on the host can read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from appliance import keyring
from appliance.accounts import vault
from appliance.config import CryptoProfile, Home
from appliance.errors import SetupError
from appliance.keyslots import way_of
from appliance.resealing import NewWay
from appliance.unlocking import Ask

STANDARD_INPUT: Final = "-"
_META: Final = "appliance.unlock"


def remember(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """`--unlock FILE`, for the `--home` that comes behind it."""
    context.meta[_META] = value


def sourced(context: click.Context, home: Home) -> Home:
    """The home, with where its secret may come from. Nothing is read or asked yet."""
    named = context.meta.get(_META)
    if named is not None:
        home.unlocking.given = _reading(str(named))
    elif sys.stdin is not None and sys.stdin.isatty():
        home.unlocking.ask = _asking(home)
    return home


def new_way(source: str | None, crypto: CryptoProfile, name: str = "") -> NewWay:
    """What is to open a home from now on: from a file, or typed twice. RequestError where it is too weak."""
    if source is None:
        if sys.stdin is None or not sys.stdin.isatty():
            raise SetupError(
                "a new passphrase is asked for at a terminal",
                code="no_terminal",
                hint="--with FILE takes a passphrase or a credential out of a file (-: standard input)",
            )
        typed = click.prompt(
            "a new passphrase for this home, of several words",
            hide_input=True,
            confirmation_prompt="the same again",
            err=True,
        )
        secret = str(typed)
    else:
        secret = _reading(source)()
    if way_of(secret) == "passphrase":
        vault.checked_passphrase(secret, crypto)
    return NewWay(secret, name, fips=crypto == "fips")


def secret_in(source: str | None) -> str:
    """A passphrase or credential out of a file, read now; empty where none was named."""
    return _reading(source)() if source is not None else ""


def _reading(source: str) -> Ask:
    if source == STANDARD_INPUT:
        return lambda: keyring.line_of(sys.stdin.buffer.read(keyring.MAX_SECRET_BYTES + 1))
    return lambda: keyring.text_of(Path(source))


def _asking(home: Home) -> Ask:
    def ask() -> str:
        return str(click.prompt(f"passphrase of {home.root}", hide_input=True, err=True))

    return ask
