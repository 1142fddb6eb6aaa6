"""People at the entrance of a home without a gateway: a passphrase of their own, and a second factor."""

from __future__ import annotations

import pytest

from appliance.accounts import codes
from appliance.accounts.accounts import Account
from appliance.accounts.codes import STEP_SECONDS
from appliance.alone import Alone
from appliance.core import Caller, Role
from appliance.errors import Refused
from tests.clocks import ManualClock

HERE = Caller("10.0.0.7", "a browser")
OWN = "four words are enough"


class Phone:
    """Somebody's authenticator, whose clock is the test's."""

    def __init__(self, secret: bytes, clock: ManualClock) -> None:
        self.secret = secret
        self._clock = clock

    def code(self, *, steps: int = 0) -> str:
        return codes.code_at(self.secret, "sha1", codes.step_of(self._clock.now_us()) + steps)

    def wrong(self) -> str:
        """A code that is right at no moment of the window."""
        near = {self.code(steps=step) for step in range(-2, 3)}
        return next(each for each in map("{:06}".format, range(9)) if each not in near)


async def person(alone: Alone, name: str = "Ada Kim", role: Role = Role.AUDITOR) -> Account:
    """An account with a passphrase of its own."""
    made = await alone.people.create(name, role)
    return await alone.people.change_passphrase(made.account.id, HERE, current=made.passphrase, new=OWN)


async def enrolled(alone: Alone, clock: ManualClock) -> tuple[Account, Phone, tuple[str, ...]]:
    """The same with a second factor; a step later, so that its next code counts."""
    known = await person(alone)
    offered = alone.people.factors.offer(known)
    phone = Phone(offered.secret, clock)
    recovery = await alone.people.factors.confirm(known, offered, phone.code(), HERE)
    clock.advance(STEP_SECONDS)
    return known, phone, recovery


async def refused(alone: Alone, code: str, passphrase: str = OWN, name: str = "Ada Kim") -> Refused:
    with pytest.raises(Refused) as told:
        await alone.people.log_in(name, passphrase, HERE, code=code)
    return told.value
