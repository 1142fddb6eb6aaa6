"""What must stay and what must go: holds, retention, and that neither can be talked around."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from appliance import config, db
from appliance.alone import Alone, open_log_alone
from appliance.audit import ceremonies, query, retention, shares
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity
from appliance.config import Home
from appliance.errors import ApplianceError, RequestError, SetupError, VerificationError
from tests.acts import dev_auditor, erase, signed, with_member
from tests.clocks import ManualClock
from tests.harness import appliance as program
from tests.records import assert_verified, place

DAY_SECONDS = 86_400


@pytest.fixture
def clock() -> ManualClock:
    """Behind the moment at which the home was made: entries' times never run backwards."""
    return ManualClock(2_000_000_000_000_000)


def said(user: str) -> Entry:
    return Entry(
        kind=Kind.REQUEST_REFUSED,
        public={"code": "test", "status": 400, "count": 1, "route": "/"},
        content={"text": f"canary of {user}"},
        actor="key",
        user=user,
        subject=f"user:key:{user}",
    )


@contextlib.contextmanager
def opened(home: Home, clock: ManualClock, days: int = 200) -> Iterator[Alone]:
    """The log of a home whose refusals are kept for so many days."""
    settings = config.parse(
        home.config.read_text().replace(
            "[audit]", f'[audit]\nretention_days = {{ "request:refused" = {days} }}'
        )
    )
    with open_log_alone(home, settings, clock) as alone:
        yield alone


async def members(alone: Alone, home: Home) -> tuple[Identity, Identity]:
    auditor, privacy = dev_auditor(home), Identity.generate("privacy")
    draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
    await alone.custody.change_policy(signed(draft, auditor))
    return auditor, privacy


async def lift(alone: Alone, hold_id: str, *identities: Identity) -> None:
    draft = ceremonies.draft_lifting(alone.audit.policy, alone.audit.origin, hold_id, "case closed")
    await alone.custody.lift_hold(signed(draft, *identities))


def contents(home: Home) -> set[int]:
    with db.reading(place(home)) as connection:
        return set(connection.execute(text("SELECT seq FROM log_payload")).scalars())


async def test_contents_go_when_their_time_is_over_and_not_before(home: Home, clock: ManualClock) -> None:
    """One day early nothing goes; then the ciphertext does, and its entry stays."""
    with opened(home, clock) as alone:
        first = alone.audit.append_sync(said("a"))
        clock.advance(199 * DAY_SECONDS)
        second = alone.audit.append_sync(said("b"))
        assert [each.num_contents for each in await alone.custody.retain()] == [0]
        clock.advance(2 * DAY_SECONDS)
        assert [each.num_contents for each in await alone.custody.retain(dry_run=True)] == [1]
        assert first.seq in contents(home)
        assert [each.num_contents for each in await alone.custody.retain()] == [1]
        assert [each.num_contents for each in await alone.custody.retain()] == [0]

    left = contents(home)
    assert first.seq not in left
    assert second.seq in left
    (entry,) = query.search(place(home), kind=Kind.RETENTION_APPLIED)
    assert entry.public["of_kind"] == "request:refused"
    assert {each.seq for each in query.search(place(home), kind=Kind.REQUEST_REFUSED)} == {
        first.seq,
        second.seq,
    }


@pytest.mark.parametrize("whom", ["everybody", "a person", "a key"])
async def test_hold_stops_both_ways_of_losing_content(home: Home, clock: ManualClock, whom: str) -> None:
    """While it is in force neither time nor two signatures remove what it covers; afterwards both do."""
    with opened(home, clock) as alone:
        two = await members(alone, home)
        kept, other = alone.audit.append_sync(said("a")), alone.audit.append_sync(said("b"))
        hold, _ = await alone.custody.hold(
            api_key="key" if whom == "a key" else "",
            user="a" if whom == "a person" else "",
            since_us=0,
            until_us=None,
            reason="court case",
        )
        with pytest.raises(RequestError) as refused:
            await erase(alone, *two, key="key", user="a")
        assert refused.value.code == "on_hold"
        clock.advance(300 * DAY_SECONDS)
        await alone.custody.retain()
        assert kept.seq in contents(home)
        assert (other.seq in contents(home)) is (whom != "a person")

        with pytest.raises(VerificationError, match="needs 2"):
            await lift(alone, hold.id, two[0])
        await lift(alone, hold.id, *two)
        with pytest.raises(RequestError, match="no hold"):
            await lift(alone, hold.id, *two)
        assert await erase(alone, *two, key="key", user="a") == 1
        await alone.custody.retain()
        assert kept.seq not in contents(home)


async def test_hold_of_another_time_or_person_is_in_nobodys_way(home: Home, clock: ManualClock) -> None:
    """A hold on last year, and one on somebody else."""
    with opened(home, clock) as alone:
        two = await members(alone, home)
        alone.audit.append_sync(said("a"))
        now = clock.now_us()
        for user, until in (("", now - 90 * DAY_SECONDS * 1_000_000), ("b", None)):
            await alone.custody.hold(api_key="", user=user, since_us=0, until_us=until, reason="r")
        assert await erase(alone, *two, key="key", user="a") == 1


@pytest.mark.parametrize(
    "settings",
    [{"request:refused": 182}, {"request:refused": 3661}, {"request:dreamed": 365}],
)
def test_periods_that_no_law_allows_are_refused(settings: dict[str, int]) -> None:
    """Less than six months, more than ten years, a kind that does not exist."""
    with pytest.raises(SetupError):
        retention.periods(settings)


async def test_holds_name_nobody_in_plaintext(home: Home, clock: ManualClock) -> None:
    """The row, the header and the file hold a blind index only."""
    with opened(home, clock) as alone:
        await alone.custody.hold(
            api_key="", user="canary-4711", since_us=0, until_us=None, reason="canary-4712"
        )
        for bad in ({"reason": " "}, {"until_us": 0}):
            options = {"api_key": "", "user": "", "since_us": 0, "until_us": None, "reason": "r"} | bad
            with pytest.raises(ApplianceError):
                await alone.custody.hold(**options)  # type: ignore[arg-type]
    held = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    assert b"canary-471" not in held


async def test_what_a_hold_kept_can_not_go_unnoticed(home: Home, clock: ManualClock) -> None:
    """Between contents that had their time lies one on hold: whoever deletes it makes verify red."""
    with opened(home, clock) as alone:
        seqs = [alone.audit.append_sync(said(user)).seq for user in "abc"]
        await alone.custody.hold(api_key="", user="b", since_us=0, until_us=None, reason="r")
        clock.advance(300 * DAY_SECONDS)
        assert [each.num_contents for each in await alone.custody.retain()] == [2]
    assert contents(home) & set(seqs) == {seqs[1]}
    assert_verified(home)
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        connection.execute("DELETE FROM log_payload WHERE seq = ?", [seqs[1]])  # the trigger is no guard here
    done = program("audit", "verify", home=home, check=False)
    assert (done.returncode, f"entry {seqs[1]}: the content is missing" in done.stdout) == (1, True)


def test_database_refuses_to_delete_without_an_entry(home: Home, clock: ManualClock) -> None:
    """The trigger lets go only of what an entry of the retention covers."""
    with opened(home, clock) as alone:
        alone.audit.append_sync(said("a"))
    with (
        contextlib.closing(sqlite3.connect(home.database)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute("DELETE FROM log_payload")
    assert len(list(shares.every(home))) == 2  # the person's, and the appliance's own
