"""Acts on keys: one at a time, on the record as they stand, and known after a recovery."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from appliance import config, db, performing
from appliance.alone import open_log_alone
from appliance.audit.kinds import Kind
from appliance.audit.sequencer import Sequencer
from appliance.commands import Done, Recover
from appliance.config import Home
from appliance.core import Role
from appliance.errors import ApplianceError, AuditUnavailable, RequestError, VerificationError
from appliance.terms import Capture, Limits, Terms
from tests.clocks import ManualClock
from tests.records import assert_verified


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
        answer = await performing.perform(Recover(), alone)

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


RESTRICTED = Terms(models=("default",), limits=Limits(concurrency=2))


async def test_key_is_known_with_its_terms_or_not_at_all(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the record of its terms fails, the key opens nothing, in this run and in no later one."""
    genuine = Sequencer.commit
    before = []
    with open_log_alone(home, config.load(home), clock) as alone:

        def watched(self: Sequencer, entries: Any) -> Any:
            before.append([each.id for each in alone.directory.all()])
            if any(each.kind is Kind.KEY_CHANGED for each in entries):
                raise OSError
            return genuine(self, entries)

        monkeypatch.setattr(Sequencer, "commit", watched)
        with pytest.raises(AuditUnavailable):
            await alone.administration.create_key("lobby", Role.KIOSK, terms=RESTRICTED)

        assert alone.directory.all() == []
    assert before
    assert all(each == [] for each in before)


async def test_terms_are_there_after_a_restart(home: Home, clock: ManualClock) -> None:
    """What a key was given at its making and later, and what it was granted besides."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.administration.create_key("lobby", Role.KIOSK, terms=RESTRICTED, stores_responses=True)
        await alone.administration.create_key("plain", Role.KIOSK)
        addresses = dataclasses.replace(RESTRICTED, addresses=("10.1.0.0/16",))
        await alone.administration.change_key("lobby", addresses)
    with open_log_alone(home, config.load(home), clock) as alone:
        known = {each.name: each for each in alone.directory.all()}

    assert known["lobby"].terms == addresses
    assert known["lobby"].stores_responses
    assert known["plain"].terms == Terms()
    assert_verified(home)


async def test_terms_hold_with_the_commit(home: Home, clock: ManualClock) -> None:
    """The same token, a moment later, is a principal with other terms."""
    with open_log_alone(home, config.load(home), clock) as alone:
        made = await alone.administration.create_key("lobby", Role.KIOSK)
        before = alone.directory.authenticate(made.new.token, now_us=clock.now_us())
        await alone.administration.change_key(made.new.key.id, RESTRICTED)
        after = alone.directory.authenticate(made.new.token, now_us=clock.now_us())

        with pytest.raises(RequestError) as same:
            await alone.administration.change_key("lobby", RESTRICTED)

    assert (before.terms, after.terms) == (Terms(), RESTRICTED)
    assert same.value.code == "nothing_to_change"


async def test_rotated_key_is_the_same_under_another_secret(home: Home, clock: ManualClock) -> None:
    """Name, role, terms, grants and length of life are kept; both keys work until the overlap is over."""
    with open_log_alone(home, config.load(home), clock) as alone:
        old = await alone.administration.create_key(
            "lobby", Role.KIOSK, expires_seconds=3000, stores_responses=True, terms=RESTRICTED
        )
        clock.advance(1000)
        new = await alone.administration.rotate_key("lobby", overlap_seconds=600)

        assert new.until_us == clock.now_us() + 600 * 1_000_000
        assert new.new.key.expires_us == clock.now_us() + 3000 * 1_000_000
        principals = [
            alone.directory.authenticate(each.new.token, now_us=clock.now_us()) for each in (old, new)
        ]
        assert [(each.name, each.role, each.terms) for each in principals] == [
            ("lobby", Role.KIOSK, RESTRICTED)
        ] * 2
        assert alone.directory.may_store(new.new.key.id)

        clock.advance(601)
        alone.directory.authenticate(new.new.token, now_us=clock.now_us())
        with pytest.raises(ApplianceError):
            alone.directory.authenticate(old.new.token, now_us=clock.now_us())
    assert_verified(home)


async def test_an_overlap_lengthens_no_life(home: Home, clock: ManualClock) -> None:
    """A key that ends sooner by itself does; with no overlap it ends at once."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.administration.create_key("lobby", Role.KIOSK, expires_seconds=60)
        made = await alone.administration.rotate_key("lobby", overlap_seconds=3600)
        assert made.until_us == clock.now_us() + 60 * 1_000_000

        clock.advance(61)
        with pytest.raises(RequestError) as over:
            await alone.administration.rotate_key(made.replaced[0], overlap_seconds=0)
        assert over.value.code == "key_not_found"

        await alone.administration.create_key("desk", Role.KIOSK)
        again = await alone.administration.rotate_key("desk", overlap_seconds=0, expires_seconds=30)
        assert again.until_us is None
        assert [each.id for each in alone.directory.active_named("desk", now_us=clock.now_us())] == [
            again.new.key.id
        ]


async def test_rotations_do_not_pile_up(home: Home, clock: ManualClock) -> None:
    """While two keys of a name are in force there is no third; both are given new terms together."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.administration.create_key("lobby", Role.KIOSK)
        made = await alone.administration.rotate_key("lobby", overlap_seconds=3600)
        for name in ("lobby", made.new.key.id, made.replaced[0]):
            with pytest.raises(RequestError) as refused:
                await alone.administration.rotate_key(name, overlap_seconds=3600)
            assert refused.value.code == "key_rotating"
        changed = await alone.administration.change_key("lobby", RESTRICTED)
        active = alone.directory.active_named("lobby", now_us=clock.now_us())

    assert len(changed.keys) == 2
    assert [each.terms for each in active] == [RESTRICTED] * 2


SENSELESS = [
    (Role.KIOSK, Terms(models=("nope",)), "model_not_found", "models"),
    (Role.OPERATOR, Terms(models=("default",)), "invalid_terms", "models"),
    (Role.AUDITOR, Terms(limits=Limits(priority=1)), "invalid_terms", "limits"),
]


@pytest.mark.parametrize(("role", "terms", "code", "param"), SENSELESS)
async def test_terms_that_would_mean_nothing_are_refused(
    home: Home, clock: ManualClock, role: Role, terms: Terms, code: str, param: str
) -> None:
    """A model that nobody knows, and terms of questions for a key that asks none."""
    with open_log_alone(home, config.load(home), clock) as alone:
        with pytest.raises(RequestError) as refused:
            await alone.administration.create_key("lobby", role, terms=terms)
        await alone.administration.create_key("lobby", role, terms=Terms(addresses=("10.0.0.0/8",)))
        with pytest.raises(RequestError) as changed:
            await alone.administration.change_key("lobby", terms)

    assert {(each.value.code, each.value.param) for each in (refused, changed)} == {(code, param)}


async def test_words_that_are_not_kept_are_stored_nowhere(home: Home, clock: ManualClock) -> None:
    """A key has responses stored or keeps its words off the record, never both."""
    metadata = Terms(capture=Capture.METADATA, capture_basis="agreement 7")
    with open_log_alone(home, config.load(home), clock) as alone:
        with pytest.raises(RequestError):
            await alone.administration.create_key("both", Role.KIOSK, terms=metadata, stores_responses=True)
        await alone.administration.create_key("store", Role.KIOSK, stores_responses=True)
        with pytest.raises(RequestError) as refused:
            await alone.administration.change_key("store", metadata)

    assert (refused.value.code, refused.value.param) == ("invalid_terms", "capture")


async def test_certificate_stands_for_one_name(home: Home, clock: ManualClock) -> None:
    """A rotated key keeps it; a key of another name can not have it as well while the first is in force."""
    card = Terms(certificates=("ab" * 32,))
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.administration.create_key("desk", Role.KIOSK, terms=card)
        await alone.administration.rotate_key("desk", overlap_seconds=0)
        with pytest.raises(RequestError) as taken:
            await alone.administration.create_key("other", Role.KIOSK, terms=card)
        await alone.administration.revoke_key("desk")
        await alone.administration.create_key("other", Role.KIOSK, terms=card)

    assert taken.value.code == "certificate_taken"


@pytest.mark.parametrize("seconds", [-1, 90 * 86_400 + 1])
async def test_an_overlap_is_bounded(home: Home, clock: ManualClock, seconds: int) -> None:
    """Two secrets for one key are for the time of a change."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.administration.create_key("lobby", Role.KIOSK)
        with pytest.raises(RequestError) as refused:
            await alone.administration.rotate_key("lobby", overlap_seconds=seconds)

    assert refused.value.code == "invalid_overlap"
