"""People: every change of an account is one transaction with its record, and one way in has one answer."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import Any

import pytest

from appliance import config, performing
from appliance.accounts.lockout import FREE_TRIES, Locked
from appliance.alone import Alone, open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.sequencer import Sequencer
from appliance.commands import Done, Recover
from appliance.config import Home
from appliance.core import Caller, Role
from appliance.errors import AuditUnavailable, Refused, RequestError, VerificationError
from appliance.people import MadeAccount
from tests.clocks import ManualClock
from tests.records import findings

HERE = Caller("127.0.0.1", "a browser")
OWN = "four words are enough"

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def clock() -> ManualClock:
    """Behind the moment at which the home was made: entries' times never run backwards."""
    return ManualClock(2_000_000_000_000_000)


async def made(alone: Alone, name: str = "Ada Kim", role: Role = Role.AUDITOR, **more: Any) -> MadeAccount:
    return await alone.people.create(name, role, **more)


def kinds(home: Home) -> list[Kind]:
    found = query.search(home.database, limit=100)
    return [each.kind for each in reversed(found) if str(each.kind).startswith("account:")]


async def test_account_lives_on_the_record(alone: Alone, home: Home) -> None:
    """Made, changed, reset, disabled: an entry each, which commits to the row as it then stands."""
    first = await made(alone)
    changed = await alone.people.change_passphrase(first.account.id, HERE, current=first.passphrase, new=OWN)
    again = await alone.people.reset("Ada Kim")
    await alone.people.disable(first.account.id)

    assert (first.account.must_change, changed.must_change, again.account.must_change) == (True, False, True)
    assert kinds(home) == [Kind.ACCOUNT_CREATED, *[Kind.ACCOUNT_CHANGED] * 3]
    assert {each.public["row_id"] for each in query.search(home.database, kind=Kind.ACCOUNT_CHANGED)} == {
        first.account.id
    }
    assert alone.people.active(first.account.id) is None
    assert findings(home) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE account SET role = 'admin'",
        "UPDATE account SET disabled_us = NULL",
        "UPDATE account SET expires_us = NULL",
        "UPDATE account SET must_change = 0",
        "UPDATE account SET name = 'Eve'",
        "UPDATE account SET passphrase = passphrase || '='",
        "DELETE FROM account",
        "INSERT INTO account VALUES ('p_aaaaaaaaaa', 'Eve', 'auditor', 'x', 0, 1, NULL, NULL)",
    ],
)
def test_row_that_somebody_changes_behind_the_log_is_found(
    home: Home, clock: ManualClock, change: str
) -> None:
    """Whoever gives themselves an account, a role or a passphrase by SQL turns verify red."""

    async def write(alone: Alone) -> None:
        await made(alone, expires_seconds=3600)
        await alone.people.disable("Ada Kim")

    with open_log_alone(home, config.load(home), clock) as alone:
        asyncio.run(write(alone))
    assert findings(home) == []
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        connection.execute(change)

    assert any("account" in each for each in findings(home))


async def test_log_in_knows_the_right_passphrase_only(alone: Alone) -> None:
    """Wrong words, another case of the name, a name of nobody, an ended account: one and the same answer."""
    known = await made(alone, "Ada Kim")
    gone = await made(alone, "Bo Lind")
    await alone.people.disable("Bo Lind")
    tries = [
        ("Ada Kim", "wrong words here"),
        ("ada kim", known.passphrase),
        ("nobody", known.passphrase),
        ("Bo Lind", gone.passphrase),
        ("", ""),
        ("\ud800", "\ud800"),
    ]
    told = set()
    for name, words in tries:
        with pytest.raises(Refused) as refused:
            await alone.people.log_in(name, words, HERE)
        told.add((refused.value.code, refused.value.message, refused.value.hint))

    assert told == {("invalid_login", "the name, the passphrase or the code is not right", "")}
    assert (await alone.people.log_in("Ada Kim", known.passphrase, HERE)).account == known.account


@pytest.mark.parametrize("name", ["Ada Kim", "nobody"])
async def test_name_waits_after_five_wrong_tries(
    alone: Alone, clock: ManualClock, home: Home, name: str
) -> None:
    """Known or not, it is locked the same way; only of an account the record says so."""
    known = await made(alone)
    codes = []
    for _ in range(FREE_TRIES + 1):
        with pytest.raises(Refused) as refused:
            await alone.people.log_in(name, "wrong words here", HERE)
        codes.append(refused.value.code)
    assert codes == ["invalid_login"] * FREE_TRIES + ["account_locked"]
    assert kinds(home).count(Kind.ACCOUNT_LOCKED) == (name == "Ada Kim")
    if name == "Ada Kim":
        with pytest.raises(Refused) as locked:
            await alone.people.log_in(name, known.passphrase, HERE)
        assert locked.value.code == "account_locked"
        clock.advance(31)
        assert (await alone.people.log_in(name, known.passphrase, HERE)).account == known.account


async def test_many_tries_at_once_are_no_more_than_one_after_the_other(alone: Alone) -> None:
    """Tries that run beside each other count before the right one among them is let in."""
    known = await made(alone)
    words = ["wrong words here"] * FREE_TRIES + [known.passphrase]
    results = await asyncio.gather(
        *(alone.people.log_in("Ada Kim", each, HERE) for each in words), return_exceptions=True
    )

    assert [isinstance(each, Refused) for each in results] == [True] * (FREE_TRIES + 1)
    assert isinstance(results[-1], Locked)


async def test_reset_lets_a_locked_person_in_again(alone: Alone) -> None:
    """Whoever asks the administrator for another passphrase does not wait."""
    await made(alone)
    for _ in range(FREE_TRIES):
        with pytest.raises(Refused):
            await alone.people.log_in("Ada Kim", "wrong words here", HERE)
    again = await alone.people.reset("Ada Kim")

    assert (await alone.people.log_in("Ada Kim", again.passphrase, HERE)).account == again.account


async def test_open_session_is_no_way_to_guess(alone: Alone, home: Home) -> None:
    """Wrong current passphrases count as wrong log-ins; a change needs the right one, and another new one."""
    first = await made(alone)
    for _ in range(FREE_TRIES - 1):
        with pytest.raises(Refused):
            await alone.people.change_passphrase(first.account.id, HERE, current="wrong", new=OWN)
    with pytest.raises(RequestError, match="old one"):
        await alone.people.change_passphrase(
            first.account.id, HERE, current=first.passphrase, new=first.passphrase
        )
    for _ in range(FREE_TRIES):
        with pytest.raises(Refused):
            await alone.people.change_passphrase(first.account.id, HERE, current="wrong", new=OWN)
    with pytest.raises(Refused) as locked:
        await alone.people.change_passphrase(first.account.id, HERE, current=first.passphrase, new=OWN)

    assert locked.value.code == "account_locked"
    refused = [Kind.ACCOUNT_REFUSED] * (2 * FREE_TRIES - 1)
    assert kinds(home) == [Kind.ACCOUNT_CREATED, *refused, Kind.ACCOUNT_LOCKED]


async def test_two_accounts_of_one_name_are_not_made_at_once(alone: Alone) -> None:
    """Of commands that race for a name all but one are told that it is taken."""
    results = await asyncio.gather(*(made(alone) for _ in range(3)), return_exceptions=True)

    assert [type(each) for each in results].count(RequestError) == 2
    assert len(alone.people.list()) == 1


async def test_replaced_account_is_another_persons(alone: Alone, home: Home) -> None:
    """The earlier one is out, with an entry of its own, and its id means nobody any more."""
    first = await made(alone)
    second = await made(alone, role=Role.PRIVACY, replace=True)

    assert alone.people.active(first.account.id) is None
    assert alone.people.active(second.account.id) == second.account
    assert kinds(home) == [Kind.ACCOUNT_CREATED, Kind.ACCOUNT_CHANGED, Kind.ACCOUNT_CREATED]
    with pytest.raises(Refused):
        await alone.people.log_in("Ada Kim", first.passphrase, HERE)


async def test_account_ends_at_its_time(alone: Alone, clock: ManualClock) -> None:
    """Behind it nobody logs in, nothing is reset, and the name is free."""
    known = await made(alone, expires_seconds=60)
    clock.advance(60)
    with pytest.raises(Refused):
        await alone.people.log_in("Ada Kim", known.passphrase, HERE)
    with pytest.raises(RequestError):
        await alone.people.reset("Ada Kim")
    assert (await made(alone)).account.id != known.account.id


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("Ada Kim", Role.KIOSK, None), "invalid_role"),
        ((" Ada", Role.AUDITOR, None), "invalid_name"),
        (("a" * 65, Role.AUDITOR, None), "invalid_name"),
        (("two\nlines", Role.AUDITOR, None), "invalid_name"),
        (("Ada", Role.AUDITOR, 0), "invalid_expiry"),
        (("Ada", Role.AUDITOR, 1 << 62), "invalid_expiry"),
    ],
)
async def test_accounts_that_could_not_be_are_refused(
    alone: Alone, home: Home, arguments: tuple[str, Role, int | None], code: str
) -> None:
    """A program's role, a name that forges a line, an end that no record holds."""
    name, role, seconds = arguments
    with pytest.raises(RequestError) as refused:
        await alone.people.create(name, role, expires_seconds=seconds)

    assert refused.value.code == code
    assert kinds(home) == []


async def test_recovery_learns_what_was_committed_and_reported_lost(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account whose end is on the record is out, although its command was told otherwise."""
    genuine = Sequencer.commit
    known = await made(alone)

    def lost(self: Sequencer, entries: object) -> object:
        genuine(self, entries)  # type: ignore[arg-type]
        raise VerificationError("the file went")

    monkeypatch.setattr(Sequencer, "commit", lost)
    with pytest.raises(AuditUnavailable):
        await alone.people.disable("Ada Kim")
    monkeypatch.setattr(Sequencer, "commit", genuine)
    assert alone.people.active(known.account.id) is not None
    assert isinstance(await performing.perform(Recover(), alone), Done)

    assert alone.people.active(known.account.id) is None


async def test_latched_log_changes_nobody(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can not be on the record does not happen: no account, and the old passphrase stays the one."""
    known = await made(alone)

    def fail(_self: Sequencer, _entries: object) -> object:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Sequencer, "commit", fail)
    with pytest.raises(AuditUnavailable):
        await alone.people.reset("Ada Kim")
    with pytest.raises(AuditUnavailable):
        await made(alone, "Bo Lind")

    assert alone.people.list() == [known.account]


def test_made_account_hides_its_passphrase(home: Home) -> None:
    """No log line can show it by printing the value that holds it."""
    with open_log_alone(home, config.load(home)) as alone:
        shown = asyncio.run(made(alone))

    assert shown.passphrase not in repr(shown)


async def test_who_vouches_at_the_host_proves_who_they_are(alone: Alone) -> None:
    """The right person of the right role, with a passphrase that nobody else chose; nobody else is taken."""
    admin = await made(alone, "Ada Kim", Role.ADMIN)
    operator = await made(alone, "Bo Lund", Role.OPERATOR)
    for each in (admin, operator):
        with pytest.raises(Refused) as unready:
            await alone.people.vouched(each.account.name, each.passphrase, "", [Role.ADMIN, Role.OPERATOR])
        assert unready.value.code == "account_not_ready"
        await alone.people.change_passphrase(each.account.id, HERE, current=each.passphrase, new=OWN)

    who = await alone.people.vouched("Ada Kim", OWN, "", [Role.ADMIN])
    with pytest.raises(Refused) as wrong:
        await alone.people.vouched("Ada Kim", "four other words here", "", [Role.ADMIN])
    with pytest.raises(Refused) as barred:
        await alone.people.vouched("Bo Lund", OWN, "", [Role.ADMIN])

    assert (who.key_id, who.role) == (admin.account.id, Role.ADMIN)
    assert (wrong.value.code, barred.value.code) == ("invalid_login", "permission_denied")
