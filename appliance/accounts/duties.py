"""Separation of duties: who runs the box, who audits it and who witnesses it are different people.

NIST SP 800-53 AC-5. One name is one person, wherever it stands: as an account of the console, on an API key,
as a reader in the key policy, as a pinned witness. Names are compared as people read them; what looks alike
in two scripts (a Latin and a Cyrillic a) stays two names: whoever gives a role knows to whom.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from appliance.core import Role
from appliance.errors import RequestError

ACCOUNT: Final = "an account"
API_KEY: Final = "an API key"
KEY_POLICY: Final = "the key policy"
PINNED_WITNESS: Final = "a pinned witness"


class Duty(StrEnum):
    """Of these three a name has at most one."""

    RUN = "runs the appliance"
    AUDIT = "audits it"
    WITNESS = "witnesses it"


DUTIES: Final = {
    Role.OPERATOR: Duty.RUN,
    Role.ADMIN: Duty.RUN,
    Role.AUDITOR: Duty.AUDIT,
    Role.WITNESS: Duty.WITNESS,
}
# What Unicode calls default-ignorable and Python calls printable: fillers, variation selectors, joiners.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A name that has a role, and where that is written."""

    name: str
    role: Role
    where: str  # one of the four above


class Duties:
    """Everybody who has a role here, asked before another is given.

    Owner of `giving`: whoever gives a role holds it from the question to the commit, so that two acts of
    different stewards (an account and an API key) can not both find that a name is free.
    """

    def __init__(self, holders: Callable[[], Iterable[Holder]]) -> None:
        self._holders = holders
        self.giving = asyncio.Lock()

    def require(self, name: str, role: Role, *, but_account: str = "") -> None:
        """RequestError where this name has another duty; the account of that name is not asked."""
        asked = [each for each in self._holders() if (each.where, each.name) != (ACCOUNT, but_account)]
        require_separate(name, role, asked)


def require_separate(name: str, role: Role, holders: Iterable[Holder]) -> None:
    """RequestError where this name has another of the three duties already."""
    duty = DUTIES.get(role)
    if duty is None:
        return
    for each in holders:
        other = DUTIES.get(each.role)
        if other is not None and other is not duty and plain(each.name) == plain(name):
            raise RequestError(
                f"this name already {other} ({each.where}, role {each.role}), so it can not be given "
                f"the role {role}",
                code="conflicting_duties",
                param="role",
                hint="who runs the appliance, who audits it and who witnesses it are different people",
            )


def plain(name: str) -> str:
    """A name as people read it: without case, width, invisible characters and the length of its spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    shown = "".join(each for each in folded if unicodedata.category(each) not in {"Cf", "Cc"})
    return " ".join(_INVISIBLE.sub("", shown).split())
