"""`--key FILE` or `--pkcs11 URI`: a signer's key, and the passphrase or PIN that opens it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.accounts import passphrases
from appliance.bundle import keys
from appliance.bundle.keys import SignerKey
from appliance.cli.base import FILE
from appliance.errors import RequestError

_F = TypeVar("_F", bound=Callable[..., Any])


def key_options(function: _F) -> _F:
    """Adds `key`, `pkcs11`, `passphrase_file`; `opened` makes a SignerKey of them."""
    for option in (
        click.option("--key", type=FILE, help="A signer's secret file."),
        pkcs11_option,
        passphrase_option,
    ):
        function = option(function)
    return function


def pkcs11_option(function: _F) -> _F:
    """`--pkcs11 URI`."""
    return click.option(
        "--pkcs11", metavar="URI", help="A P-384 key on a token: hsm:KEYID?label=TOKEN; module in PYKCS11LIB."
    )(function)


def passphrase_option(function: _F) -> _F:
    """`--passphrase-file FILE`."""
    return click.option(
        "--passphrase-file", type=FILE, help="The passphrase, or the token's PIN (default: asked for)."
    )(function)


def opened(key: Path | None, pkcs11: str | None, passphrase_file: Path | None) -> SignerKey:
    """The key that the options name. RequestError where they name none or two."""
    if (key is None) == (pkcs11 is None):
        raise RequestError("give one key: --key FILE, or --pkcs11 URI", code="no_key", param="key")
    if pkcs11 is not None:
        return keys.from_token("token", pkcs11, pin_of(passphrase_file))
    assert key is not None  # noqa: S101 - one of both was given
    return keys.load(key.read_bytes(), asked(passphrase_file, f"passphrase of {key.name}"))


def pin_of(file: Path | None) -> Callable[[str], str]:
    """What a token asks for its PIN, each time it signs; a person types it once."""

    @functools.cache
    def pin(_what: str) -> str:
        return asked(file, "PIN of the token")

    return pin


def asked(file: Path | None, what: str) -> str:
    """A secret word out of a file's first line, or typed without being shown."""
    if file is not None:
        return file.read_text(encoding="utf-8").split("\n", 1)[0]
    return str(click.prompt(what, hide_input=True, err=True))


def chosen(file: Path | None) -> str:
    """A new passphrase, typed twice. RequestError where it is too short."""
    if file is not None:
        return passphrases.check_new(asked(file, ""))
    typed = click.prompt(
        "a passphrase for this key, of several words", hide_input=True, confirmation_prompt=True, err=True
    )
    return passphrases.check_new(str(typed))
