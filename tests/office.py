"""An office with two deciders, for tests of acts: an auditor and a privacy officer, each with a key pair."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from appliance import config, db
from appliance.alone import Alone, open_log_alone
from appliance.approvals import Approvals
from appliance.audit import ceremonies, query
from appliance.audit.acts import Draft
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity
from appliance.clock import Clock
from appliance.config import Home
from appliance.core import Caller, Principal, Role
from tests.acts import dev_auditor, signed, with_member
from tests.clocks import ManualClock
from tests.homes import make_home

HERE = Caller("192.0.2.1", "a browser")
PAUL = Principal("p_paul", "Paul Voss", Role.PRIVACY)
ADA = Principal("p_ada", "Ada Kim", Role.AUDITOR)


@dataclass
class Office:
    """Who decides in this home. `people` are account ids, by name."""

    home: Home
    auditor: Identity
    privacy: Identity
    people: dict[str, str] = field(default_factory=dict)
    key_id: str = ""  # an API key under which people asked

    def file(self, folder: Path, who: Identity) -> Path:
        """An identity file, as its owner carries it."""
        path = folder / f"{who.name}.identity"
        path.write_text(who.text())
        return path


def approvals_of(alone: Alone, home: Home, clock: Clock) -> Approvals:
    """The steward of open acts over an open log."""
    place = db.of(home, config.load(home))
    return Approvals(audit=alone.audit, custody=alone.custody, home=home, database=place, clock=clock)


async def join(alone: Alone, home: Home) -> tuple[Identity, Identity]:
    """The dev home's auditor, and a privacy officer beside them in the key policy."""
    auditor, privacy = dev_auditor(home), Identity.generate("paul")
    draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
    await alone.custody.change_policy(signed(draft, auditor))
    return auditor, privacy


def said(user: str, key: str = "key") -> Entry:
    """Something that a person said, under an API key."""
    return Entry(
        kind=Kind.REQUEST_REFUSED,
        public={"code": "test", "status": 400, "count": 1, "route": "/"},
        content={"text": f"what {user} said"},
        actor=key,
        user=user,
        subject=f"user:{key}:{user}",
    )


def erasure(alone: Alone, user: str = "citizen-17", *, key: str = "key", reason: str = "asked for") -> Draft:
    """An erasure of all that a person said."""
    return ceremonies.draft_erasure(
        alone.audit.policy,
        alone.audit.origin,
        key=key,
        user=user,
        since="",
        until="",
        reason=reason,
        basis="GDPR Art. 17(1)(b)",
    )


def furnished(root: Path, passphrase: str, *, more: Callable[[Alone], None] = lambda _alone: None) -> Office:
    """A home at rest: Ada Kim (auditor) and Paul Voss (privacy) have accounts and hosted identities, all
    under one passphrase, and a person asked something five times under the API key "lobby".
    """
    # In a thread of its own: a browser's driver may keep an event loop in the caller's.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_furnish, make_home(root), passphrase, more).result()


def _furnish(home: Home, passphrase: str, more: Callable[[Alone], None]) -> Office:
    async def settle(alone: Alone) -> Office:
        auditor, privacy = await join(alone, home)
        office = Office(home, auditor, privacy)
        key = await alone.administration.create_key("lobby", Role.KIOSK)
        office.key_id = key.new.key.id
        for name, role, identity in (
            ("Ada Kim", Role.AUDITOR, auditor),
            ("Paul Voss", Role.PRIVACY, privacy),
        ):
            made = await alone.people.create(name, role)
            await alone.people.change_passphrase(
                made.account.id, HERE, current=made.passphrase, new=passphrase
            )
            await alone.hosted.store(made.account.id, role, identity, passphrase, HERE)
            office.people[name] = made.account.id
        for _ in range(5):
            await alone.audit.append(said("citizen-17", office.key_id))
        await alone.audit.append(said("someone else", office.key_id))
        return office

    with open_log_alone(home, config.load(home)) as alone:
        office = asyncio.run(settle(alone))
        more(alone)
    return office


@dataclass
class Room:
    """An open log, its open acts, and two who decide."""

    home: Home
    clock: ManualClock
    alone: Alone
    approvals: Approvals
    auditor: Identity
    privacy: Identity

    def kinds(self) -> list[str]:
        found = query.search(self.home.database, limit=100)
        shown = ("act:", "content:", "hold:", "policy:changed", "audit:")
        return [str(each.kind) for each in reversed(found) if str(each.kind).startswith(shown)]

    def keys(self) -> list[str]:
        return sorted(path.name for path in self.home.keys.glob("act-*.key"))


@contextlib.contextmanager
def room_of(home: Home) -> Iterator[Room]:
    """The log of a home, in which two people asked something, with its open acts."""
    clock = ManualClock(2_000_000_000_000_000)
    with open_log_alone(home, config.load(home), clock) as alone:
        auditor, privacy = asyncio.run(join(alone, home))
        alone.audit.append_sync(said("citizen-17"))
        alone.audit.append_sync(said("someone else"))
        yield Room(home, clock, alone, approvals_of(alone, home, clock), auditor, privacy)
