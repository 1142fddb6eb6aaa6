"""Second factors: in force from their first code on, used once, taken away on the record, read by nobody."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3

import pytest

from appliance import config
from appliance.accounts import codes, passphrases
from appliance.accounts.codes import NUM_RECOVERY, STEP_SECONDS
from appliance.accounts.entrances import MAX_WRONG_CODES
from appliance.accounts.lockout import Locked
from appliance.alone import Alone, open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.core import Role
from appliance.errors import Refused, RequestError, VerificationError
from tests.clocks import ManualClock
from tests.entered import HERE, OWN, Phone, enrolled, person, refused
from tests.records import findings

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(2_000_000_000_000_000)


async def test_code_is_used_once_even_over_a_restart(home: Home, clock: ManualClock) -> None:
    """Whoever overheard it has nothing of it, within its half minute, in another process too."""
    with open_log_alone(home, config.load(home), clock) as alone:
        _, phone, _ = await enrolled(alone, clock)
        overheard = phone.code()
        await alone.people.log_in("Ada Kim", OWN, HERE, code=overheard)
        again = await refused(alone, overheard)
    with open_log_alone(home, config.load(home), clock) as alone:
        after_restart = await refused(alone, overheard)
        clock.advance(STEP_SECONDS)
        control = await alone.people.log_in("Ada Kim", OWN, HERE, code=phone.code())

    assert again.code == after_restart.code == "invalid_login"
    assert control.account.name == "Ada Kim"
    assert findings(home) == []


async def test_two_log_ins_with_one_code_at_once_are_one(alone: Alone, clock: ManualClock) -> None:
    """Of tries that run beside each other one is let in."""
    _, phone, recovery = await enrolled(alone, clock)
    for code in (phone.code(), recovery[0]):
        results = await asyncio.gather(
            *(alone.people.log_in("Ada Kim", OWN, HERE, code=code) for _ in range(3)), return_exceptions=True
        )
        assert sum(not isinstance(each, Exception) for each in results) == 1
        assert sum(isinstance(each, Refused) for each in results) == 2


async def test_recovery_codes_open_once_each(alone: Alone, clock: ManualClock, home: Home) -> None:
    """All ten without the authenticator, none twice, and fresh ones end what is left."""
    known, _, recovery = await enrolled(alone, clock)
    for each in recovery[:3]:
        await alone.people.log_in("Ada Kim", OWN, HERE, code=each.upper())
        assert (await refused(alone, each)).code == "invalid_login"
    factor = alone.people.entering.of(known.id).factor
    fresh = await alone.people.factors.renew(known, HERE)

    assert factor is not None
    assert factor.num_recovery == NUM_RECOVERY - 3
    assert not set(fresh) & set(recovery)
    assert (await refused(alone, recovery[5])).code == "invalid_login"
    await alone.people.log_in("Ada Kim", OWN, HERE, code=fresh[5])
    assert findings(home) == []


async def test_enrolment_counts_from_its_first_code_on(alone: Alone, clock: ManualClock) -> None:
    """Offered and not confirmed, nothing is asked for; the code that confirmed it opens nothing more."""
    known = await person(alone)
    offered, others = alone.people.factors.offer(known), alone.people.factors.offer(known)
    phone = Phone(offered.secret, clock)
    for code in (phone.wrong(), Phone(others.secret, clock).code(), ""):
        with pytest.raises(RequestError) as wrong:
            await alone.people.factors.confirm(known, offered, code, HERE)
        assert wrong.value.code == "invalid_code"
    await alone.people.log_in("Ada Kim", OWN, HERE, code="")
    await alone.people.factors.confirm(known, offered, phone.code(), HERE)

    assert (await refused(alone, "")).code == "invalid_login"
    assert (await refused(alone, phone.code())).code == "invalid_login"
    clock.advance(STEP_SECONDS)
    await alone.people.log_in("Ada Kim", OWN, HERE, code=phone.code())


async def test_another_persons_offer_is_none(alone: Alone, clock: ManualClock) -> None:
    """A secret is for the account that it was made for."""
    known, other = await person(alone), await person(alone, "Bo Lind", Role.PRIVACY)
    offered = alone.people.factors.offer(known)
    with pytest.raises(RequestError):
        await alone.people.factors.confirm(other, offered, Phone(offered.secret, clock).code(), HERE)


async def test_nobody_tries_more_codes_than_a_hundred(alone: Alone, clock: ManualClock) -> None:
    """Whoever knows the passphrase and waits each time is out behind them, with the right code too."""
    known, phone, recovery = await enrolled(alone, clock)
    tried = 0
    while not alone.people.entering.of(known.id).is_factor_locked:
        problem = await refused(alone, phone.wrong())
        if isinstance(problem, Locked):
            clock.advance(problem.retry_after_seconds)
        else:
            tried += 1
    clock.advance(3600)

    assert tried == MAX_WRONG_CODES
    assert (await refused(alone, phone.code())).code == "invalid_login"
    clock.advance(3600)
    assert (await refused(alone, recovery[0])).code == "invalid_login"
    clock.advance(3600)
    await alone.people.factors.reset("Ada Kim")
    assert alone.people.entering.must_enrol(known)
    await alone.people.log_in("Ada Kim", OWN, HERE)


async def test_reset_by_an_admin_makes_another_one_due(alone: Alone, clock: ManualClock, home: Home) -> None:
    """On the record with who did it; twice is refused; what was kept is gone from the row."""
    admin = (await alone.people.create("Root Kim", Role.ADMIN)).account
    known, phone, recovery = await enrolled(alone, clock)
    since = alone.people.entering.factor_since(known.id)
    _, receipt = await alone.people.factors.reset(known.id, by=admin.principal)
    (record,) = [each for each in query.search(home.database, limit=5) if each.seq == receipt.seq]

    assert record.kind is Kind.ACCOUNT_SECOND_FACTOR
    assert since is not None
    assert alone.people.entering.factor_since(known.id) is None
    assert alone.people.entering.must_enrol(known)
    await alone.people.log_in("Ada Kim", OWN, HERE)
    assert alone.people.entering.must_enrol(known)
    for code in (phone.code(), recovery[0]):  # nothing that is looked at
        await alone.people.log_in("Ada Kim", OWN, HERE, code=code)
    with pytest.raises(RequestError) as none:
        await alone.people.factors.reset(known.id, by=admin.principal)
    assert none.value.code == "no_second_factor"
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        rows = connection.execute("SELECT algorithm, sealed, recovery FROM entrance").fetchall()
    assert rows == [("", b"", b"")]


async def test_disabled_and_replaced_accounts_leave_no_secret(
    alone: Alone, clock: ManualClock, home: Home
) -> None:
    """An account that is over has no second factor any more."""
    known, _, _ = await enrolled(alone, clock)
    await alone.people.disable(known.id)
    other, _, _ = await enrolled(alone, clock)
    await alone.people.create("Ada Kim", Role.PRIVACY, replace=True)

    assert [alone.people.entering.factor_since(each.id) for each in (known, other)] == [None, None]
    assert findings(home) == []


async def test_copy_of_the_database_holds_no_secret(alone: Alone, clock: ManualClock, home: Home) -> None:
    """Neither in any file but the home's key: in no form; the control finds what is stored in the clear."""
    known, phone, recovery = await enrolled(alone, clock)
    await alone.people.log_in("Ada Kim", OWN, HERE, code=phone.code())
    offered = codes.offer(known.id, "x", profile="standard", issuer="y")
    forms = [
        phone.secret, phone.secret.hex().encode(), *_forms(phone.secret),
        *(each.encode() for each in recovery), *(each.replace("-", "").encode() for each in recovery),
    ]  # fmt: skip
    held = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    copy = b"".join(path.read_bytes() for path in home.root.glob("appliance.db*"))

    assert [each for each in forms if each in held] == []
    factor = alone.people.entering.of(known.id).factor
    assert factor is not None
    assert known.id.encode() in copy
    assert factor.sealed in copy
    assert offered.secret not in held


def _forms(secret: bytes) -> list[bytes]:
    offered = codes.Offer("", "sha1", secret, "")
    return [offered.text.encode(), offered.text.replace(" ", "").encode(), secret[::-1]]


async def test_home_without_its_key_lets_nobody_past_the_second_factor(
    alone: Alone, clock: ManualClock, home: Home
) -> None:
    """A restored database without keys/people.key: whoever has the passphrase is told what helps."""
    known, phone, recovery = await enrolled(alone, clock)
    (home.keys / "people.key").rename(home.keys / "elsewhere")
    for code in (phone.code(), recovery[0]):
        with pytest.raises(VerificationError) as missed:
            await alone.people.log_in("Ada Kim", OWN, HERE, code=code)
        assert re.search("account reset NAME --second-factor", missed.value.hint)
    assert (await refused(alone, phone.code(), "not the right words")).code == "invalid_login"
    await alone.people.factors.reset(known.id)
    await alone.people.log_in("Ada Kim", OWN, HERE)


async def test_role_that_must_have_one_is_led_to_it(home: Home, clock: ManualClock) -> None:
    """Configured by role; a person of another role is not asked."""
    settings = config.parse(home.config.read_text() + '\n[console]\nsecond_factor = ["auditor"]\n')
    with open_log_alone(home, settings, clock) as alone:
        known, other = await person(alone), await person(alone, "Bo Lind", Role.PRIVACY)
        asked = alone.people.entering.must_enrol(known), alone.people.entering.must_enrol(other)
        least = alone.people.entering.least_characters(known), alone.people.entering.least_characters(other)
        offered = alone.people.factors.offer(known)
        await alone.people.factors.confirm(known, offered, Phone(offered.secret, clock).code(), HERE)

        assert asked == (True, False)
        assert least == (passphrases.MIN_WITH_FACTOR, passphrases.MIN_ALONE)
        assert not alone.people.entering.must_enrol(known)
