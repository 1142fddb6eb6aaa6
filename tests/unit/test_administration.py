"""Acts on keys: one at a time, on the record as they stand, and known after a recovery."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from appliance import config, control, db
from appliance.audit.sequencer import Sequencer
from appliance.commands import Done, Recover
from appliance.config import Home
from appliance.core import Role
from appliance.errors import ApplianceError, AuditUnavailable, RequestError, VerificationError
from appliance.services import open_log_alone
from tests.clocks import ManualClock


async def test_two_keys_of_one_name_are_not_made_at_once(home: Home, clock: ManualClock) -> None:
    """Of two commands that race for a name one is told that it is taken."""
    with open_log_alone(home, config.load(home), clock) as alone:
        results = await asyncio.gather(
            *(alone.administration.create_key("lobby", Role.KIOSK) for _ in range(3)), return_exceptions=True
        )
        named = alone.directory.active_named("lobby", now_us=clock.now_us())

    assert len(named) == 1
    assert [type(each) for each in results].count(RequestError) == 2


async def test_key_is_not_revoked_twice_at_once(home: Home, clock: ManualClock) -> None:
    """The second of two racing revocations is told that the key is revoked already."""
    with open_log_alone(home, config.load(home), clock) as alone:
        made = await alone.administration.create_key("lobby", Role.KIOSK)
        results = await asyncio.gather(
            *(alone.administration.revoke_key(made.new.key.id) for _ in range(2)), return_exceptions=True
        )

    assert [type(each) for each in results].count(RequestError) == 1


@pytest.mark.parametrize("seconds", [9_999_999 * 86_400, 1 << 62])
async def test_lifetime_beyond_the_calendar_is_refused(home: Home, clock: ManualClock, seconds: int) -> None:
    """An expiry that no record could hold is the caller's mistake, not a crash."""
    with open_log_alone(home, config.load(home), clock) as alone, pytest.raises(RequestError) as refused:
        await alone.administration.create_key("lobby", Role.KIOSK, expires_seconds=seconds)

    assert refused.value.code == "invalid_expiry"


async def test_recovery_learns_what_was_committed_and_reported_lost(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation that is on the record is in force, although its command was told otherwise."""
    genuine = Sequencer.commit
    with open_log_alone(home, config.load(home), clock) as alone:
        made = await alone.administration.create_key("lobby", Role.KIOSK)

        def lost(self: Sequencer, entries: object) -> object:
            genuine(self, entries)  # type: ignore[arg-type]
            raise VerificationError("the file went")

        monkeypatch.setattr(Sequencer, "commit", lost)
        with pytest.raises(AuditUnavailable):
            await alone.administration.revoke_key("lobby")
        monkeypatch.setattr(Sequencer, "commit", genuine)
        answer = await control.perform(Recover(), alone)

        assert isinstance(answer, Done)
        with pytest.raises(ApplianceError):
            alone.directory.authenticate(made.new.token, now_us=clock.now_us())


@pytest.mark.parametrize("open_engine", ["migrator", "reader"])
def test_database_errors_do_not_quote_values(home: Home, open_engine: str) -> None:
    """What went into a statement stays out of its error: names and hashes are in no traceback."""
    engine = getattr(db.at(home.database), open_engine)()
    with engine.connect() as connection, pytest.raises(DatabaseError) as failed:
        connection.execute(text("INSERT INTO nowhere VALUES (:value)"), {"value": "canary-7"})
    engine.dispose()

    assert "canary-7" not in str(failed.value)
