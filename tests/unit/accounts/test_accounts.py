"""Accounts: what a row says, who is in force, and what no line shows."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from appliance.accounts import accounts
from appliance.accounts.accounts import Register
from appliance.config import PersonsRole
from appliance.core import PEOPLE, Principal, Role
from appliance.errors import RequestError

NOW_US = 1_790_000_000_000_000


def test_account_is_in_force_until_the_microsecond_of_its_end() -> None:
    """Its expiry and its end by hand count at once."""
    made = accounts.new("Ada", Role.AUDITOR, "kept", now_us=NOW_US, expires_us=NOW_US + 10)

    assert made.is_active(NOW_US + 9)
    assert not made.is_active(NOW_US + 10)
    assert not accounts.disabled(made, now_us=NOW_US).is_active(NOW_US)


def test_first_passphrase_is_somebody_elses() -> None:
    """Whoever made the account knows it, so it has to be changed; ids tell people from keys."""
    made = accounts.new("Ada", Role.AUDITOR, "kept", now_us=NOW_US)
    chosen = accounts.with_passphrase(made, "own", must_change=False)

    assert (made.must_change, chosen.must_change) == (True, False)
    assert chosen.principal == Principal(made.id, "Ada", Role.AUDITOR)
    assert made.id.startswith("p_")
    assert len(made.id) == 12
    assert "kept" not in repr(made)


def test_name_belongs_to_the_account_in_force() -> None:
    """Of two accounts with one name the disabled one is not found by it, and none by its id."""
    gone = accounts.disabled(accounts.new("Ada", Role.AUDITOR, "k", now_us=NOW_US), now_us=NOW_US)
    here = accounts.new("Ada", Role.PRIVACY, "k", now_us=NOW_US + 1)
    register = Register([here, gone])

    assert register.all() == [gone, here]
    assert register.find("Ada", now_us=NOW_US) == here == register.find(here.id, now_us=NOW_US)
    for wanted in (gone.id, "ada", "nobody"):
        with pytest.raises(RequestError) as unknown:
            register.find(wanted, now_us=NOW_US)
        assert unknown.value.code == "account_not_found"


def test_row_holds_every_field() -> None:
    """What the record commits to is all that an account is."""
    made = accounts.new("Ada", Role.AUDITOR, "kept", now_us=NOW_US, expires_us=NOW_US + 1)
    row = accounts.row_of(accounts.disabled(made, now_us=NOW_US + 2))

    assert set(row) == {field.name for field in dataclasses.fields(made)}
    assert set(row) == set(accounts.account.c.keys())
    assert all(value is not None for value in row.values())


def test_who_asks_is_a_program() -> None:
    """Every role that asks questions is a program's, the others are people's; each fits its column."""
    assert set(PEOPLE) == set(Role) - {Role.KIOSK, Role.DEVELOPER} == set(get_args(PersonsRole))
    assert all(len(role) <= accounts.account.c.role.type.length for role in PEOPLE)  # type: ignore[attr-defined]
