"""The entrance: both proofs or no way in, nothing told of which was wrong, nothing counted in vain."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest

from appliance import config, entering
from appliance.accounts import passphrases
from appliance.accounts.lockout import ADDRESS_TRIES, FIRST_WAIT_SECONDS, FREE_TRIES, Locked
from appliance.alone import Alone, open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.core import Caller, Role
from appliance.errors import Refused, RequestError, Unavailable
from tests.clocks import ManualClock
from tests.entered import HERE, OWN, enrolled, person, refused
from tests.records import findings

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(2_000_000_000_000_000)


def kinds(home: Home, begin: str = "account:") -> list[Kind]:
    found = query.search(home.database, limit=200)
    return [each.kind for each in reversed(found) if str(each.kind).startswith(begin)]


async def test_both_proofs_or_no_way_in(alone: Alone, clock: ManualClock) -> None:
    """Each flaw has the same words: no code, a wrong one, an old one, a right one without the passphrase."""
    known, phone, recovery = await enrolled(alone, clock)
    tries = [
        ("", OWN), (phone.wrong(), OWN), (phone.code(steps=-2), OWN), (phone.code(steps=2), OWN),
        (phone.code(), "not the right words"), (recovery[0], "not the right words"), ("", ""),
    ]  # fmt: skip
    told = set()
    for code, words in tries:
        problem = await refused(alone, code, words)
        told.add((problem.code, problem.message, problem.hint))
        clock.advance(3600)
    problem = await refused(alone, "", OWN, "nobody")
    told.add((problem.code, problem.message, problem.hint))

    assert told == {("invalid_login", "the name, the passphrase or the code is not right", "")}
    entered = await alone.people.log_in("Ada Kim", OWN, HERE, code=phone.code())
    assert entered.account == known


async def test_wrong_codes_wait_as_wrong_passphrases_do(alone: Alone, clock: ManualClock, home: Home) -> None:
    """Four are free, then the name is locked for right ones as well, and it says truthfully for how long."""
    _, phone, _ = await enrolled(alone, clock)
    for number in range(FREE_TRIES):
        words = OWN if number % 2 else "not the right words"
        assert (await refused(alone, phone.wrong(), words)).code == "invalid_login"
    locked = await refused(alone, phone.code())

    assert isinstance(locked, Locked)
    assert locked.retry_after_seconds == FIRST_WAIT_SECONDS
    clock.advance(FIRST_WAIT_SECONDS - 1)
    assert isinstance(await refused(alone, phone.code()), Locked)
    clock.advance(1)
    entered = await alone.people.log_in("Ada Kim", OWN, HERE, code=phone.code())
    assert (entered.before.failures, entered.before.wrong_codes) == (FREE_TRIES, FREE_TRIES // 2)
    assert (entered.now.failures, entered.now.wrong_codes) == (0, 0)
    assert kinds(home).count(Kind.ACCOUNT_REFUSED) == FREE_TRIES
    assert kinds(home)[-2:] == [Kind.ACCOUNT_LOCKED, Kind.ACCOUNT_ENTERED]


async def test_restart_hands_out_no_fresh_tries(home: Home, clock: ManualClock) -> None:
    """What was counted of an account goes on, and so does what is left of its waiting."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await person(alone)
        for _ in range(FREE_TRIES):
            await refused(alone, "", "not the right words")
    clock.advance(10)
    with open_log_alone(home, config.load(home), clock) as alone:
        locked = await refused(alone, "")
        assert isinstance(locked, Locked)
        assert locked.retry_after_seconds == FIRST_WAIT_SECONDS - 10
        clock.advance(FIRST_WAIT_SECONDS)
        assert (await refused(alone, "", "not the right words")).code == "invalid_login"
        again = await refused(alone, "")

    assert isinstance(again, Locked)
    assert again.retry_after_seconds == 2 * FIRST_WAIT_SECONDS


@pytest.mark.parametrize("step", [-86_400, 86_400])
async def test_clock_that_was_set_locks_nobody_for_longer(home: Home, clock: ManualClock, step: int) -> None:
    """Behind a restart a name waits at most as long as its tries deserve."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await person(alone)
        for _ in range(FREE_TRIES):
            await refused(alone, "", "not the right words")
    clock.wall_us += step * 1_000_000
    with open_log_alone(home, config.load(home), clock) as alone:
        clock.advance(FIRST_WAIT_SECONDS)
        assert (await alone.people.log_in("Ada Kim", OWN, HERE)).account.name == "Ada Kim"


async def test_new_passphrase_by_an_admin_ends_the_waiting_over_a_restart(
    home: Home, clock: ManualClock
) -> None:
    """And not the second factor, which the admin does not have."""
    with open_log_alone(home, config.load(home), clock) as alone:
        _, phone, _ = await enrolled(alone, clock)
        for _ in range(FREE_TRIES):
            await refused(alone, "", "not the right words")
        again = await alone.people.reset("Ada Kim")
    with open_log_alone(home, config.load(home), clock) as alone:
        assert (await refused(alone, "", again.passphrase)).code == "invalid_login"
        await alone.people.log_in("Ada Kim", again.passphrase, HERE, code=phone.code())


async def test_address_has_a_purse_of_wrong_tries(alone: Alone, clock: ManualClock) -> None:
    """Names by the dozen from one place end at thirty; right ones cost nothing, others elsewhere get in."""
    await person(alone)
    for _ in range(ADDRESS_TRIES + 5):
        await alone.people.log_in("Ada Kim", OWN, HERE)
    for number in range(ADDRESS_TRIES):
        assert (await refused(alone, "", "a guess of words", f"name {number}")).code == "invalid_login"
    told = await refused(alone, "", OWN)

    assert isinstance(told, Locked)
    assert (told.code, told.retry_after_seconds) == ("address_locked", 30)
    await alone.people.log_in("Ada Kim", OWN, Caller("10.0.0.8"))
    clock.advance(told.retry_after_seconds)
    await alone.people.log_in("Ada Kim", OWN, HERE)


async def test_crowd_at_the_entrance_is_told_to_come_back(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries wait one behind the other, and not without end."""
    monkeypatch.setattr(entering, "MAX_WAITING", 3)
    results = await asyncio.gather(
        *(alone.people.log_in(f"name {number}", OWN, Caller(f"10.0.0.{number}")) for number in range(5)),
        return_exceptions=True,
    )
    crowded = [each for each in results if isinstance(each, Unavailable)]

    assert len(crowded) == 2
    assert {each.retry_after_seconds for each in crowded} == {5}
    assert sum(isinstance(each, Refused) for each in results) == 3


async def test_wrong_try_is_told_at_a_whole_half_second(
    alone: Alone, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was wrong, and however long it took to find out."""
    _, phone, _ = await enrolled(alone, clock)
    slept: list[float] = []
    took = iter([120_000, 480_000, 730_000])

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    def matches(*_arguments: object, **_named: object) -> bool:
        clock.steady_us += next(took)
        return len(slept) == 0

    monkeypatch.setattr(entering.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    monkeypatch.setattr(passphrases, "matches", matches)
    for name in ("Ada Kim", "Ada Kim", "nobody"):
        await refused(alone, phone.wrong(), OWN, name)

    assert [round(each, 3) for each in slept if each] == [0.38, 0.02, 0.27]


async def test_what_was_counted_is_told_at_the_next_log_in(alone: Alone, clock: ManualClock) -> None:
    """When it was last, how many wrong tries since, and how many of them knew the passphrase."""
    await person(alone)
    first = await alone.people.log_in("Ada Kim", OWN, HERE)
    clock.advance(60)
    await refused(alone, "", "not the right words")
    failed_us = clock.now_us()
    clock.advance(60)
    second = await alone.people.log_in("Ada Kim", OWN, HERE)

    assert (first.before.entered_us, first.before.failures) == (None, 0)
    assert second.before.entered_us == first.now.entered_us
    assert (second.before.failures, second.before.failed_us) == (1, failed_us)
    assert second.before.wrong_codes == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entrance SET algorithm = '', sealed = x'', recovery = x''",
        "UPDATE entrance SET last_step = 0",
        "UPDATE entrance SET wrong_codes = 0, failures = 0",
        "UPDATE entrance SET locked_until_us = 1",
        "DELETE FROM entrance",
    ],
)
def test_row_that_somebody_changes_behind_the_log_is_found(
    home: Home, clock: ManualClock, change: str
) -> None:
    """Whoever takes a second factor away by SQL, or what was counted, turns verify red."""

    async def write(alone: Alone) -> None:
        await enrolled(alone, clock)
        await refused(alone, "")

    with open_log_alone(home, config.load(home), clock) as alone:
        asyncio.run(write(alone))
    assert findings(home) == []
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        connection.execute(change)

    assert any("entrance" in each for each in findings(home))


@pytest.mark.parametrize(
    ("new", "told"),
    [("fourteen chars", "15 to 256"), ("password password", "first"), ("Ada Kim Ada Kim!", "first")],
)
async def test_passphrase_of_ones_own_is_none_of_the_first_guesses(alone: Alone, new: str, told: str) -> None:
    """Too short where it is all that is asked for, on every list, or one's own name."""
    made = await alone.people.create("Ada Kim", Role.AUDITOR)
    with pytest.raises(RequestError, match=told):
        await alone.people.change_passphrase(made.account.id, HERE, current=made.passphrase, new=new)


async def test_passphrase_is_kept_anew_where_more_work_is_asked_for(
    alone: Alone, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next log-in, once; the account is otherwise the same."""
    known = await person(alone)
    monkeypatch.setattr(passphrases, "_SCRYPT", (5, 8, 1))
    entered = await alone.people.log_in("Ada Kim", OWN, HERE)
    again = await alone.people.log_in("Ada Kim", OWN, HERE)

    assert known.passphrase.startswith("scrypt$4,8,1$")
    assert entered.account.passphrase.startswith("scrypt$5,8,1$")
    assert again.account == entered.account == alone.people.active(known.id)
    assert (entered.account.must_change, entered.account.id) == (known.must_change, known.id)
    assert kinds(home)[-3:] == [Kind.ACCOUNT_ENTERED, Kind.ACCOUNT_CHANGED, Kind.ACCOUNT_ENTERED]
