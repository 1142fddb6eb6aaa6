"""`appliance key`: API keys. A secret is shown once, at its creation."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

from appliance.accounts import terms_form
from appliance.accounts.terms_form import TermsForm
from appliance.accounts.terms_words import in_words
from appliance.cli.base import command_gateway, home_option, json_option, on_one_line, show, table, when
from appliance.cli.key_terms import UNSET, asked_of, terms_options
from appliance.clock import SystemClock
from appliance.commands import ChangeKey, CreateKey, ListKeys, RevokeKey, RotateKey
from appliance.config import Home
from appliance.core import Role
from appliance.errors import RequestError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[int]):
    """`90d`, `12h`, `30m`, `45s` → seconds."""

    name = "duration"

    def __init__(self, *, may_be_none: bool = False) -> None:
        self._may_be_none = may_be_none

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "0" and self._may_be_none:
            return 0
        match = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", value)
        if match is None:
            self.fail("a duration is a number and s, m, h or d, such as 90d", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.group()
def key() -> None:
    """API keys: create, show, change, rotate, revoke. A change is in force at once."""


@key.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--expires", type=Duration(), help="Lifetime, such as 90d or 12h.")
@click.option("--replace", is_flag=True, help="Revoke the active keys of this name afterwards.")
@click.option("--store-responses", is_flag=True, help="It may have answers kept for its next question.")
@terms_options
@home_option
@json_option
def create(
    name: str,
    role: str,
    expires: int | None,
    *,
    replace: bool,
    store_responses: bool,
    home: Home,
    as_json: bool,
    **terms: Any,
) -> None:
    """Make a key and show its secret, once.

    \b
    Example: appliance key create lobby-1 --role kiosk --expires 90d
    """
    made = command_gateway(
        home,
        CreateKey(
            name=name,
            role=Role(role),
            expires_seconds=expires,
            replace=replace,
            stores_responses=store_responses,
            terms=asked_of(terms).form,
        ),
    )
    show(made, _new(made), as_json=as_json)


@key.command()
@click.argument("name_or_id")
@terms_options
@click.option(
    "--unset", multiple=True, type=click.Choice(list(UNSET)), help="Take this term back; may be repeated."
)
@home_option
@json_option
def change(name_or_id: str, unset: tuple[str, ...], *, home: Home, as_json: bool, **terms: Any) -> None:
    """Give a key other terms: what is named changes, everything else stays.

    In force at once for requests that begin afterwards. By its name it is both keys of a rotation.

    \b
    Example: appliance key change lobby-1 --from 10.1.0.0/16 --rpm 60 --unset models
    """
    asked = asked_of(terms)
    result = command_gateway(
        home,
        ChangeKey(
            name_or_id=name_or_id, terms=asked.form, unset=[*(UNSET[each] for each in unset), *asked.back]
        ),
    )
    lines = [f"changed {each['id']} ({each['name']}): {result['record']}" for each in result["keys"]]
    show(result, lines, as_json=as_json)


@key.command()
@click.argument("name_or_id")
@click.option(
    "--overlap",
    type=Duration(may_be_none=True),
    default="24h",
    show_default=True,
    help="How long the old key goes on; 0 revokes it at once.",
)
@click.option(
    "--expires", type=Duration(), help="The new key's lifetime (default: as long as the old one's)."
)
@home_option
@json_option
def rotate(name_or_id: str, overlap: int, expires: int | None, *, home: Home, as_json: bool) -> None:
    """Make a key in the place of another, with its role and terms; both work until the overlap is over.

    \b
    Example: appliance key rotate lobby-1 --overlap 12h
    """
    made = command_gateway(
        home, RotateKey(name_or_id=name_or_id, overlap_seconds=overlap, expires_seconds=expires)
    )
    ends = when(made["replaced_until_us"])
    old = f"key {made['replaced'][0]} " + (f"goes on until {ends}" if ends else "is revoked")
    show(made, [*_new(made), old], as_json=as_json)


@key.command(name="show")
@click.argument("name_or_id")
@home_option
@json_option
def show_(name_or_id: str, home: Home, *, as_json: bool) -> None:
    """Say everything about a key, but for its secret.

    \b
    Example: appliance key show lobby-1
    """
    listed = command_gateway(home, ListKeys())["keys"]
    now_us = SystemClock().now_us()
    by_id = [each for each in listed if each["id"] == name_or_id]
    named = [each for each in listed if each["name"] == name_or_id]
    # Of a name's keys those in force; where none is, the newest of those that were.
    found = by_id or [each for each in named if _state(each, now_us) == "active"] or named[-1:]
    if not found:
        raise RequestError(
            "no key has this name or id", code="key_not_found", hint="appliance key list shows names and ids"
        )
    lines: list[str] = []
    for each in found:
        facts = [
            ("id", each["id"]),
            ("role", each["role"]),
            ("state", _state(each, now_us)),
            ("created", when(each["created_us"])),
            ("expires", when(each["expires_us"]) or "never"),
            ("last use", when(each["last_use_us"]) or "not known"),
            *([("today (UTC)", _today(each["today"]))] if each.get("today") else []),
            ("stores responses", "yes" if each["stores_responses"] else "no"),
            *in_words(terms_form.terms_of(msgspec.convert(each["terms"], TermsForm))),
        ]
        lines += ["", on_one_line(each["name"])] if lines else [on_one_line(each["name"])]
        lines += [f"  {label:<21}{on_one_line(value)}" for label, value in facts]
    show({"keys": found}, lines, as_json=as_json)


@key.command(name="list")
@home_option
@json_option
def list_(home: Home, *, as_json: bool) -> None:
    """Show every key, without secrets.

    \b
    Example: appliance key list
    """
    result = command_gateway(home, ListKeys())
    now_us = SystemClock().now_us()
    rows = [
        (
            each["id"],
            each["name"],
            each["role"],
            when(each["created_us"]),
            when(each["expires_us"]) or "never",
            _state(each, now_us),
            when(each["last_use_us"]),
            "responses" if each["stores_responses"] else "",
        )
        for each in result["keys"]
    ]
    header = ("ID", "NAME", "ROLE", "CREATED", "EXPIRES", "STATE", "LAST USE", "STORES")
    show(result, table(header, rows), as_json=as_json)


@key.command()
@click.argument("name_or_id")
@home_option
@json_option
def revoke(name_or_id: str, home: Home, *, as_json: bool) -> None:
    """Put a key out of force, at once.

    \b
    Example: appliance key revoke lobby-1
    """
    result = command_gateway(home, RevokeKey(name_or_id=name_or_id))
    show(result, [f"revoked {result['id']} ({result['name']})"], as_json=as_json)


def _new(made: dict[str, Any]) -> list[str]:
    """The secret, and what it is."""
    expiry = when(made["expires_us"]) or "never"
    about = f"key {made['id']} ({made['name']}, {made['role']}), expires {expiry}"
    about += ", may store responses" if made["stores_responses"] else ""
    about += ", with terms of its own" if made["terms"] else ""
    return [str(made["token"]), f"{about}; the line above is shown this once"]


def _state(each: dict[str, Any], now_us: int) -> str:
    if each["revoked_us"] is not None:
        return "revoked"
    expires_us = each["expires_us"]
    return "expired" if expires_us is not None and expires_us <= now_us else "active"


def _today(had: dict[str, int]) -> str:
    return (
        f"{had['requests']} requests, {had['tokens']} tokens of what has ended; "
        f"{had['answers_at_once']} answers run or wait"
    )
