"""Separation of duties: who runs the box, who audits it and who witnesses it are different people. Pure.

NIST SP 800-53 AC-5. One name is one person, wherever it stands: as an account of the console, on an API key,
as a reader in the key policy, as a pinned witness. Names are compared as people read them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.core import Role
from appliance.errors import RequestError


class Duty(StrEnum):
    """Of these three a name has at most one."""

    RUN = "runs the appliance"
    AUDIT = "audits it"
    WITNESS = "witnesses it"


_DUTIES: Final = {
    Role.OPERATOR: Duty.RUN,
    Role.ADMIN: Duty.RUN,
    Role.AUDITOR: Duty.AUDIT,
    Role.WITNESS: Duty.WITNESS,
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A name that has a role, and where that is written."""

    name: str
    role: Role
    where: str  # "an account", "an API key", "the key policy", "a pinned witness"


def require_separate(name: str, role: Role, holders: Iterable[Holder]) -> None:
    """RequestError where this name has another of the three duties already."""
    duty = _DUTIES.get(role)
    if duty is None:
        return
    for each in holders:
        other = _DUTIES.get(each.role)
        if other is not None and other is not duty and _same(each.name, name):
            raise RequestError(
                f"this name already {other} ({each.where}, role {each.role}), so it can not be given "
                f"the role {role}",
                code="conflicting_duties",
                param="role",
                hint="who runs the appliance, who audits it and who witnesses it are different people",
            )


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()
