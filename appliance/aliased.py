"""Aliases on command: what this host's program asks of them, and what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from appliance.alias_commands import (
    ActivateAlias,
    AliasCommand,
    ListAliases,
    PinAlias,
    RemoveAlias,
    RollBackAlias,
    Vouched,
)
from appliance.aliasing import Aliasing, Loading, Moved, Wanted
from appliance.catalog import Catalog
from appliance.core import Principal, Role
from appliance.errors import RequestError
from appliance.models import aliases
from appliance.models.register import Register
from appliance.people import People

_MAY: Final = (Role.OPERATOR, Role.ADMIN)


async def perform(
    command: AliasCommand, aliasing: Aliasing, people: People, loading: Loading | None = None
) -> dict[str, Any]:
    """Carry out what the host's program asks."""
    if isinstance(command, ListAliases):
        return {"aliases": told(aliasing.modelling.catalog, aliasing.modelling.register)}
    needed = (Role.ADMIN,) if isinstance(command, ActivateAlias) and command.override else _MAY
    if command.by is None and needed == (Role.ADMIN,):
        raise RequestError(
            "an override needs an admin", code="account_needed", hint='name one: --override --as "Ada Kim"'
        )
    who = await vouched(command.by, people, needed)
    match command:
        case ActivateAlias():
            wanted = Wanted(
                command.model,
                command.why,
                alias=command.alias,
                adapter=command.adapter,
                scale=command.scale,
                allow_gap=command.allow_gap,
                override=command.override,
            )
            return _moved(await aliasing.activate(wanted, loading=loading, by=who))
        case RollBackAlias():
            done = await aliasing.roll_back(
                command.alias, why=command.why, allow_gap=command.allow_gap, loading=loading, by=who
            )
            return _moved(done)
        case PinAlias():
            done = await aliasing.pin(
                command.alias, pinned=command.pinned, why=command.why, loading=loading, by=who
            )
            return _moved(done)
        case RemoveAlias():
            return _moved(await aliasing.remove(command.alias, why=command.why, loading=loading, by=who))


async def vouched(by: Vouched | None, people: People, roles: Sequence[Role]) -> Principal | None:
    """Who stands up for a command, if anybody does. Raises what speaks against it."""
    return None if by is None else await people.vouched(by.account, by.passphrase, by.code, roles)


def told(catalog: Catalog, register: Register) -> list[dict[str, Any]]:
    """Every alias that stands for something, by name, as JSON's own values.

    Where the configuration or the release put it, nobody moved it: `changed_us` is None.
    """
    found = []
    for name in sorted(catalog.names()):
        known, now = register.alias(name), aliases.stands_for(catalog, name)
        # A record whose files are not here any more is passed over: what holds is told.
        if known is not None and known.now != now:
            known = None
        found.append(
            {
                "alias": name,
                **aliases.told(now if now is not None else aliases.NOWHERE),
                "pinned": known is not None and known.pinned,
                "changed_us": known.changed_us if known is not None else None,
                "changed_by": known.changed_by if known is not None else "",
                "why": known.why if known is not None else "",
                "previous": [aliases.told(each) for each in known.previous] if known is not None else [],
            }
        )
    return found


def _moved(moved: Moved) -> dict[str, Any]:
    return {
        "alias": moved.alias.name,
        **aliases.told(moved.alias.now),
        "before": aliases.told(moved.before) if moved.before is not None else None,
        "pinned": moved.alias.pinned,
        "record": moved.receipt.record if moved.receipt is not None else None,
        "notes": list(moved.notes),
    }
