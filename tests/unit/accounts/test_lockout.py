"""Lock-out: five tries, then longer and longer; for names that nobody has as well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts import lockout
from appliance.accounts.lockout import (
    ADDRESS_SECONDS,
    ADDRESS_TRIES,
    FIRST_WAIT_SECONDS,
    FREE_TRIES,
    MAX_WAIT_SECONDS,
    Addresses,
    Lockout,
)

SECOND_US = 1_000_000


def test_waits_grow_from_the_fifth_wrong_try_on() -> None:
    """Four are free, then 30 s, twice as long each time, at most an hour."""
    tries, waits = Lockout(), []
    for _ in range(FREE_TRIES + 10):
        tries.failed("ada", now_us=0)
        waits.append(tries.wait_seconds("ada", now_us=0))

    assert waits[: FREE_TRIES - 1] == [0] * (FREE_TRIES - 1)
    assert waits[FREE_TRIES - 1 : FREE_TRIES + 6] == [30, 60, 120, 240, 480, 960, 1920]
    assert set(waits[FREE_TRIES + 6 :]) == {MAX_WAIT_SECONDS}


def test_lock_is_told_when_it_begins_and_ends_to_the_microsecond() -> None:
    """Whoever counts the try learns that the name is locked; a moment before the end it still is."""
    tries = Lockout()
    told = [tries.failed("ada", now_us=0) for _ in range(FREE_TRIES)]
    ends_us = FIRST_WAIT_SECONDS * SECOND_US

    assert told == [False] * (FREE_TRIES - 1) + [True]
    assert tries.wait_seconds("ada", now_us=ends_us - 1) == 1
    assert tries.wait_seconds("ada", now_us=ends_us) == 0
    assert tries.wait_seconds("bo", now_us=0) == 0


def test_right_passphrase_begins_anew() -> None:
    """Wrong tries before a right one are forgotten."""
    tries = Lockout()
    for _ in range(FREE_TRIES - 1):
        tries.failed("ada", now_us=0)
    tries.succeeded("ada")

    assert not any(tries.failed("ada", now_us=0) for _ in range(FREE_TRIES - 1))
    assert tries.failed("ada", now_us=0)


def test_flood_of_names_takes_no_more_memory_than_the_table_has() -> None:
    """Names beyond the bound push out the oldest ones."""
    tries = Lockout()
    for number in range(lockout._MAX_NAMES + 50):
        tries.failed(f"name {number}", now_us=0)

    assert len(tries._tries) == lockout._MAX_NAMES
    assert "name 49" not in tries._tries
    assert "name 50" in tries._tries


def test_restored_tries_go_on_where_they_were() -> None:
    """What is left of a waiting is waited; a clock that was set makes it no longer than it was."""
    tries = Lockout()
    tries.restore("ada", FREE_TRIES, wait_us=7 * SECOND_US, now_us=0)
    tries.restore("bo", FREE_TRIES, wait_us=10**15, now_us=0)
    tries.restore("cy", FREE_TRIES - 1, wait_us=10**15, now_us=0)
    tries.restore("di", FREE_TRIES, wait_us=-(10**15), now_us=0)

    waits = [tries.wait_seconds(name, now_us=0) for name in ("ada", "bo", "cy", "di")]
    assert waits == [7, FIRST_WAIT_SECONDS, 0, 0]
    assert tries.failed("di", now_us=0)
    assert tries.wait_seconds("di", now_us=0) == 2 * FIRST_WAIT_SECONDS


def test_address_has_thirty_tries_and_one_more_each_half_minute() -> None:
    """What it is told to wait is the truth to the second; a right try is given back."""
    purse = Addresses()
    assert [purse.take("10.0.0.1", now_us=0) for _ in range(ADDRESS_TRIES)] == [0] * ADDRESS_TRIES
    assert purse.take("10.0.0.1", now_us=0) == ADDRESS_SECONDS
    assert purse.take("10.0.0.2", now_us=0) == 0
    assert purse.take("10.0.0.1", now_us=(ADDRESS_SECONDS - 1) * SECOND_US) == 1
    assert purse.take("10.0.0.1", now_us=ADDRESS_SECONDS * SECOND_US) == 0
    purse.give_back("10.0.0.1")
    assert purse.take("10.0.0.1", now_us=ADDRESS_SECONDS * SECOND_US) == 0
    hours_us = 3600 * SECOND_US
    assert [purse.take("10.0.0.1", now_us=hours_us) for _ in range(ADDRESS_TRIES)] == [0] * ADDRESS_TRIES


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("", "testclient", False),
    ],
)
def test_addresses_of_one_machine_share_a_purse(one: str, other: str, *, same: bool) -> None:
    """IPv6 hands a machine 2^64 of them; a socket for both families tells IPv4 in its own way."""
    purse = Addresses()
    for _ in range(ADDRESS_TRIES):
        purse.take(one, now_us=0)

    assert (purse.take(other, now_us=0) > 0) == same


def test_flood_of_addresses_takes_no_more_memory_than_the_table_has() -> None:
    """The oldest make room."""
    purse = Addresses()
    for number in range(lockout._MAX_ADDRESSES + 50):
        purse.take(f"somewhere {number}", now_us=0)

    assert len(purse._spent) == lockout._MAX_ADDRESSES


_STEPS = st.lists(
    st.tuples(st.sampled_from(["wrong", "right", "wait"]), st.sampled_from("ab"), st.integers(0, 4000)),
    max_size=80,
)


@given(_STEPS)
def test_nobody_guesses_faster_than_the_table_allows(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is tried: between two right ones, n wrong ones take at least the waits that n needs."""
    tries, now_us = Lockout(), 0
    wrong = {"a": 0, "b": 0}
    first_us = {"a": 0, "b": 0}
    for act, name, seconds in steps:
        if act == "wait":
            now_us += seconds * SECOND_US
        elif tries.wait_seconds(name, now_us=now_us):
            continue  # it is locked: neither a wrong nor a right passphrase is looked at
        elif act == "right":
            tries.succeeded(name)
            wrong[name] = 0
        else:
            if not wrong[name]:
                first_us[name] = now_us
            over = wrong[name] - FREE_TRIES + 1
            needed = sum(min(FIRST_WAIT_SECONDS << n, MAX_WAIT_SECONDS) for n in range(max(0, over)))
            assert now_us - first_us[name] >= needed * SECOND_US
            wrong[name] += 1
            assert tries.failed(name, now_us=now_us) is (wrong[name] >= FREE_TRIES)
            assert tries.wait_seconds(name, now_us=now_us) <= MAX_WAIT_SECONDS
