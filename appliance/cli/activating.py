"""`appliance model activate`, `rollback`, `alias`: which model is behind which name."""

from __future__ import annotations

from typing import Any, Final

import click

from appliance import config
from appliance.alias_commands import ActivateAlias, ListAliases, PinAlias, RemoveAlias, RollBackAlias
from appliance.catalog import DEFAULT_ALIAS
from appliance.cli.base import command_gateway, home_option, json_option, show, table, warn, when
from appliance.cli.vouching import as_option, vouched
from appliance.config import Home

_BESIDE_SECONDS: Final = 60  # on top of what a load may take
_alias = click.option("--alias", default=DEFAULT_ALIAS, show_default=True, help="The name that callers use.")
_why = click.option("--why", required=True, metavar="TEXT", help="Why, for the record. Name no person in it.")
_gap = click.option(
    "--allow-gap",
    is_flag=True,
    help="Where memory does not hold both models: callers wait while one is unloaded and the other loaded.",
)


@click.command()
@click.argument("model")
@_alias
@_why
@click.option("--adapter", default="", metavar="ID", help="A LoRA file that runs beside the model.")
@click.option("--scale", default=1.0, show_default=True, help="How strongly the adapter counts.")
@_gap
@click.option("--override", is_flag=True, help="Go past what its evaluation says; an admin only (--as).")
@as_option
@home_option
@json_option
def activate(
    model: str,
    alias: str,
    why: str,
    adapter: str,
    scale: float,
    account: str | None,
    proof: str | None,
    home: Home,
    *,
    allow_gap: bool,
    override: bool,
    as_json: bool,
) -> None:
    """Let an alias stand for MODEL. No request fails: it is loaded first, and what runs ends where it began.

    \b
    Example: appliance model activate qwen2.5-7b --why "better at tax questions"
    """
    command = ActivateAlias(
        model=model,
        alias=alias,
        adapter=adapter,
        scale=scale,
        why=why,
        allow_gap=allow_gap,
        override=override,
        by=vouched(account, proof),
    )
    _show_moved(command_gateway(home, command, timeout_seconds=_patience(home)), as_json=as_json)


@click.command()
@_alias
@_why
@_gap
@as_option
@home_option
@json_option
def rollback(
    alias: str,
    why: str,
    account: str | None,
    proof: str | None,
    home: Home,
    *,
    allow_gap: bool,
    as_json: bool,
) -> None:
    """Let an alias stand again for what it stood for before. The model that it leaves need not be there.

    \b
    Example: appliance model rollback --why "answers got shorter"
    """
    command = RollBackAlias(alias=alias, why=why, allow_gap=allow_gap, by=vouched(account, proof))
    _show_moved(command_gateway(home, command, timeout_seconds=_patience(home)), as_json=as_json)


@click.group()
def alias() -> None:
    """Names that callers use: list, pin, unpin, remove."""


@alias.command(name="list")
@home_option
@json_option
def list_(home: Home, *, as_json: bool) -> None:
    """Show every alias, what it stands for, and who moved it last.

    \b
    Example: appliance model alias list
    """
    result = command_gateway(home, ListAliases())
    rows = [
        (
            each["alias"],
            each["model"] or "nothing",
            f"{each['adapter']} × {each['scale']:g}" if each["adapter"] else "",
            each["sha256"][:16],
            "yes" if each["pinned"] else "no",
            when(each["changed_us"]),
            each["changed_by"],
            each["why"],
            each["previous"][0]["model"] if each["previous"] else "",
        )
        for each in result["aliases"]
    ]
    header = ("ALIAS", "MODEL", "ADAPTER", "SHA256", "PINNED", "CHANGED", "BY", "WHY", "BEFORE")
    show(result, table(header, rows), as_json=as_json)


@alias.command()
@click.argument("name")
@_why
@as_option
@home_option
@json_option
def pin(name: str, why: str, account: str | None, proof: str | None, home: Home, *, as_json: bool) -> None:
    """Keep an alias's model loaded, however long nobody asks it.

    \b
    Example: appliance model alias pin kiosk --why "the lobby must not wait"
    """
    command = PinAlias(alias=name, pinned=True, why=why, by=vouched(account, proof))
    _show_changed(command_gateway(home, command), "pinned", as_json=as_json)


@alias.command()
@click.argument("name")
@_why
@as_option
@home_option
@json_option
def unpin(name: str, why: str, account: str | None, proof: str | None, home: Home, *, as_json: bool) -> None:
    """Let an alias's model go where its memory is needed.

    \b
    Example: appliance model alias unpin kiosk --why "the lobby is closed"
    """
    command = PinAlias(alias=name, pinned=False, why=why, by=vouched(account, proof))
    _show_changed(command_gateway(home, command), "not pinned", as_json=as_json)


@alias.command()
@click.argument("name")
@_why
@as_option
@home_option
@json_option
def remove(name: str, why: str, account: str | None, proof: str | None, home: Home, *, as_json: bool) -> None:
    """Let an alias stand for nothing. Refused where a key's terms or the lobby's screen name it.

    \b
    Example: appliance model alias remove kiosk --why "there is no lobby any more"
    """
    command = RemoveAlias(alias=name, why=why, by=vouched(account, proof))
    _show_changed(command_gateway(home, command), "removed", as_json=as_json)


def _patience(home: Home) -> float:
    """How long a load may take, and what is done around it."""
    return config.load(home).engine.load_timeout_seconds + _BESIDE_SECONDS


def _show_moved(moved: dict[str, Any], *, as_json: bool) -> None:
    for note in () if as_json else moved["notes"]:
        warn(note)
    before = f", before: {moved['before']['model']}" if moved["before"] else ""
    lines = [f"{moved['alias']} stands for {moved['model']}{before}", f"sha256 {moved['sha256']}"]
    if moved["adapter"]:
        lines.append(f"adapter {moved['adapter']} × {moved['scale']:g}, sha256 {moved['adapter_sha256']}")
    if moved["record"]:
        lines.append(f"on the record: {moved['record']}")
    show(moved, lines, as_json=as_json)


def _show_changed(moved: dict[str, Any], change: str, *, as_json: bool) -> None:
    for note in () if as_json else moved["notes"]:
        warn(note)
    show(moved, [f"{moved['alias']}: {change}"], as_json=as_json)
