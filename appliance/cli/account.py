"""`appliance account`: people who log in to the console. A passphrase is shown once, for the first log-in."""

from __future__ import annotations

from typing import Any

import click

from appliance.cli.base import command_gateway, home_option, json_option, show, table, when
from appliance.cli.key import Duration
from appliance.clock import SystemClock
from appliance.commands import CreateAccount, DisableAccount, ListAccounts, ResetAccount, ResetSecondFactor
from appliance.config import Home
from appliance.core import PEOPLE, Role


@click.group()
def account() -> None:
    """People who log in to the console: create, list, reset, disable. A change is in force at once."""


@account.command()
@click.argument("name")
@click.option("--role", type=click.Choice([each.value for each in PEOPLE]), required=True)
@click.option("--expires", type=Duration(), help="Lifetime, such as 90d or 12h.")
@click.option("--replace", is_flag=True, help="Disable the account that has this name.")
@home_option
@json_option
def create(name: str, role: str, expires: int | None, *, replace: bool, home: Home, as_json: bool) -> None:
    """Let a person log in, and show the passphrase for the first time, once.

    Who runs the appliance (operator, admin), who audits it and who witnesses it are different people: a name
    that has one of these duties, here, on an API key or in the key policy, is not given another.

    \b
    Example: appliance account create "Ada Kim" --role auditor
    """
    made = command_gateway(
        home, CreateAccount(name=name, role=Role(role), expires_seconds=expires, replace=replace)
    )
    _show_once(made, as_json=as_json)


@account.command(name="list")
@home_option
@json_option
def list_(home: Home, *, as_json: bool) -> None:
    """Show every account.

    \b
    Example: appliance account list
    """
    result = command_gateway(home, ListAccounts())
    now_us = SystemClock().now_us()
    rows = [
        (
            each["id"],
            each["name"],
            each["role"],
            when(each["created_us"]),
            when(each["expires_us"]) or "never",
            "yes" if each["second_factor"] else "no",
            when(each["entered_us"]) or "never",
            _state(each, now_us),
        )
        for each in result["accounts"]
    ]
    columns = ("ID", "NAME", "ROLE", "CREATED", "EXPIRES", "SECOND FACTOR", "LAST LOG-IN", "STATE")
    show(result, table(columns, rows), as_json=as_json)


@account.command()
@click.argument("name_or_id")
@click.option("--second-factor", is_flag=True, help="Leave the passphrase; take the second factor away.")
@home_option
@json_option
def reset(name_or_id: str, home: Home, *, second_factor: bool, as_json: bool) -> None:
    """Give somebody another passphrase for their next log-in, or let them set up another second factor.

    \b
    Example: appliance account reset "Ada Kim"
    """
    if second_factor:
        result = command_gateway(home, ResetSecondFactor(name_or_id=name_or_id))
        told = "sets up another second factor at the next log-in"
        show(result, [f"{result['name']} ({result['id']}) {told}"], as_json=as_json)
        return
    _show_once(command_gateway(home, ResetAccount(name_or_id=name_or_id)), as_json=as_json)


@account.command()
@click.argument("name_or_id")
@home_option
@json_option
def disable(name_or_id: str, home: Home, *, as_json: bool) -> None:
    """Let somebody in no more; open sessions end at once.

    \b
    Example: appliance account disable "Ada Kim"
    """
    result = command_gateway(home, DisableAccount(name_or_id=name_or_id))
    show(result, [f"disabled {result['id']} ({result['name']})"], as_json=as_json)


def _show_once(made: dict[str, Any], *, as_json: bool) -> None:
    about = f"account {made['id']} ({made['name']}, {made['role']}), for the first log-in; then it is changed"
    show(made, [str(made["passphrase"]), f"{about}; the line above is shown this once"], as_json=as_json)


def _state(each: dict[str, Any], now_us: int) -> str:
    if each["disabled_us"] is not None:
        return "disabled"
    if each["expires_us"] is not None and each["expires_us"] <= now_us:
        return "expired"
    return "waits for its first log-in" if each["must_change"] else "active"
