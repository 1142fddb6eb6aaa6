"""Sessions: they end by themselves, all that they held goes with them, and each end is on the record."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field

import pytest

from appliance.accounts import accounts
from appliance.accounts.accounts import Account
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity
from appliance.console import sessions as module
from appliance.console.sessions import MAX_KEPT, MAX_OF_ONE_ACCOUNT, Sessions
from appliance.core import Caller, Role
from appliance.errors import AuditUnavailable
from tests.clocks import ManualClock
from tests.unit.console.rooms import MemoryLog, person, sessions_of

HERE = Caller("127.0.0.1", "a browser")


@dataclass
class Place:
    log: MemoryLog = field(default_factory=MemoryLog)
    clock: ManualClock = field(default_factory=ManualClock)
    people: dict[str, Account] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sessions: Sessions = sessions_of(self.log, self.clock, self.people)

    def known(self, role: Role = Role.AUDITOR) -> Account:
        made = person(role)
        self.people[made.id] = made
        return made

    def ends(self) -> list[object]:
        return [each.public["reason"] for each in self.log.written if each.kind is Kind.SESSION_CLOSED]


@pytest.fixture
def place() -> Place:
    return Place()


async def test_browser_holds_what_this_memory_does_not(place: Place) -> None:
    """The secret is handed out once: here stands its hash, and no line shows what is secret of a session."""
    token, session = await place.sessions.open(place.known(), HERE)

    assert await place.sessions.find(token) is session
    assert session.digest == hashlib.sha256(token.encode()).digest()
    assert len(token) >= 43  # 256 bits
    shown = repr(session) + repr(place.log.written)
    assert [each for each in (token, session.csrf, session.credential) if each in shown] == []
    for wrong in ("", token[:-1], token + "a", session.digest.hex(), "\ud800"):
        assert await place.sessions.find(wrong) is None


async def test_silence_ends_a_session_and_a_click_keeps_it(place: Place) -> None:
    """Each request begins the ten minutes anew; the moment they are over it is out."""
    token, session = await place.sessions.open(place.known(), HERE)
    for _ in range(3):
        place.clock.advance(599)
        assert await place.sessions.find(token) is session
    assert place.sessions.ends_in_seconds(session) == 600
    place.clock.advance(600)

    assert await place.sessions.find(token) is None
    assert place.ends() == ["idle"]


async def test_page_that_refreshes_itself_keeps_no_session_alive(place: Place) -> None:
    """What a script asks for by itself is nobody's click: silence goes on meanwhile."""
    token, session = await place.sessions.open(place.known(), HERE)
    for _ in range(5):
        place.clock.advance(100)
        assert await place.sessions.find(token, is_seen=False) is session
    assert place.sessions.ends_in_seconds(session) == 100
    place.clock.advance(100)

    assert await place.sessions.find(token, is_seen=False) is None
    assert place.ends() == ["idle"]


async def test_age_ends_a_session_that_never_falls_silent(place: Place) -> None:
    """Nobody stays logged in for ever by clicking."""
    token, session = await place.sessions.open(place.known(), HERE)
    for _ in range(7):
        place.clock.advance(500)
        assert await place.sessions.find(token) is session
    assert place.sessions.ends_in_seconds(session) == 100
    place.clock.advance(100)

    assert await place.sessions.find(token) is None
    assert place.ends() == ["expired"]


@pytest.mark.parametrize("what", ["disabled", "passphrase"])
async def test_change_of_the_account_ends_its_sessions_at_once(place: Place, what: str) -> None:
    """Whoever is let in no more, or whose passphrase is another one, is out with the next request."""
    known = place.known()
    token, _ = await place.sessions.open(known, HERE)
    if what == "disabled":
        del place.people[known.id]
    else:
        place.people[known.id] = accounts.with_passphrase(known, "another", must_change=True)

    assert await place.sessions.find(token) is None
    assert place.ends() == [what]


async def test_fourth_browser_of_one_person_ends_the_first(place: Place) -> None:
    """Others' sessions are not counted."""
    known, other = place.known(), place.known()
    await place.sessions.open(other, HERE)
    tokens = [(await place.sessions.open(known, HERE))[0] for _ in range(MAX_OF_ONE_ACCOUNT + 1)]

    found = [await place.sessions.find(each) is not None for each in tokens]
    assert found == [False, *[True] * MAX_OF_ONE_ACCOUNT]
    assert place.ends() == ["replaced"]


@pytest.mark.parametrize("how", ["close", "stop", "sweep"])
async def test_unlocked_identities_go_with_the_session(
    place: Place, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ends, once: the identity is out of the session's hands, and the record says why."""
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.01)
    token, session = await place.sessions.open(place.known(), HERE)
    session.identities.append(Identity.generate("ada"))
    match how:
        case "close":
            await place.sessions.close(session)
            await place.sessions.close(session)
        case "stop":
            await place.sessions.stop()
        case "sweep":
            place.sessions.start()
            place.clock.advance(600)
            while session.identities:
                await asyncio.sleep(0.01)
            await place.sessions.stop()

    assert session.identities == []
    assert await place.sessions.find(token) is None
    assert place.ends() == [{"close": "logout", "stop": "stopped", "sweep": "idle"}[how]]


async def test_latched_log_lets_nobody_in_and_everybody_out(place: Place) -> None:
    """A log-in must be on the record; an end happens even where it can not be."""
    known = place.known()
    token, session = await place.sessions.open(known, HERE)
    place.log.is_ready = False
    with pytest.raises(AuditUnavailable):
        await place.sessions.open(known, HERE)
    place.clock.advance(600)

    assert await place.sessions.find(token) is None
    assert session.identities == []
    assert [each.kind for each in place.log.written] == [Kind.SESSION_OPENED]


async def test_who_is_sealed_and_the_role_is_not(place: Place) -> None:
    """Headers tell nobody's name and no address."""
    token, session = await place.sessions.open(place.known(), HERE)
    await place.sessions.close(session)
    assert token
    for each in place.log.written:
        assert set(each.public) <= {"role", "reason"}
        assert each.content is not None
        assert each.content["principal"]["name"] == "Ada Kim"


def test_what_a_session_keeps_is_bounded_and_under_names_that_nobody_guesses(place: Place) -> None:
    """Searches and drafts stay out of addresses; the oldest make room."""
    _, session = asyncio.run(place.sessions.open(place.known(), HERE))
    names = [session.keep(number) for number in range(MAX_KEPT + 1)]

    assert session.kept(names[0]) is None
    assert [session.kept(each) for each in names[1:]] == list(range(1, MAX_KEPT + 1))
    assert session.kept("nothing") is None
    session.notice = "done"
    assert [session.take_notice(), session.take_notice()] == ["done", ""]
