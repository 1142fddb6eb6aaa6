"""`appliance key`: API keys. A secret is shown once, at its creation."""

from __future__ import annotations

import re

import click

from appliance.cli.base import command_gateway, home_option, json_option, show, table, when
from appliance.clock import SystemClock
from appliance.commands import CreateKey, ListKeys, RevokeKey
from appliance.config import Home
from appliance.core import Role

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[int]):
    """`90d`, `12h`, `30m`, `45s` → seconds."""

    name = "duration"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", value)
        if match is None:
            self.fail("a duration is a number and s, m, h or d, such as 90d", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.group()
def key() -> None:
    """API keys: create, list, revoke. A change is in force at once."""


@key.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--expires", type=Duration(), help="Lifetime, such as 90d or 12h.")
@click.option("--replace", is_flag=True, help="Revoke the active keys of this name afterwards.")
@click.option("--store-responses", is_flag=True, help="It may have answers kept for its next question.")
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
        ),
    )
    expiry = when(made["expires_us"]) or "never"
    about = f"key {made['id']} ({made['name']}, {made['role']}), expires {expiry}"
    about += ", may store responses" if made["stores_responses"] else ""
    lines = [str(made["token"]), f"{about}; the line above is shown this once"]
    show(made, lines, as_json=as_json)


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
            "responses" if each["stores_responses"] else "",
        )
        for each in result["keys"]
    ]
    header = ("ID", "NAME", "ROLE", "CREATED", "EXPIRES", "STATE", "STORES")
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


def _state(each: dict[str, int | None], now_us: int) -> str:
    if each["revoked_us"] is not None:
        return "revoked"
    expires_us = each["expires_us"]
    return "expired" if expires_us is not None and expires_us <= now_us else "active"
