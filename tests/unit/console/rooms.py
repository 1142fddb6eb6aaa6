"""A frame around pages of a test, without a gateway: what it says, and what it puts on the record."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from appliance.accounts import accounts
from appliance.accounts.accounts import Account
from appliance.audit.entry import Entry
from appliance.audit.log import AuditLog
from appliance.console.app import _to_frame
from appliance.console.frame import Frame
from appliance.console.render import Pages
from appliance.console.sessions import Session, Sessions
from appliance.core import Caller, Receipt, Role
from appliance.errors import AuditUnavailable
from appliance.services import Services
from tests.clocks import ManualClock


class MemoryLog:
    """Takes entries until it is latched."""

    def __init__(self) -> None:
        self.written: list[Entry] = []
        self.is_ready = True

    async def append(self, entry: Entry) -> Receipt:
        if not self.is_ready:
            raise AuditUnavailable("the log is closed")
        self.written.append(entry)
        return Receipt("test", len(self.written), b"")


@dataclass
class Room:
    """One frame, everybody who may be in it, and what was recorded."""

    log: MemoryLog
    clock: ManualClock
    sessions: Sessions
    people: dict[str, Account]
    client: httpx.AsyncClient
    refusals: list[dict[str, Any]] = field(default_factory=list)

    async def record(self, **refusal: Any) -> None:
        if not self.log.is_ready:
            raise AuditUnavailable("the log is closed")
        self.refusals.append(refusal)

    async def enter(self, role: Role) -> Session:
        """A session of a new account, in this room's browser."""
        known = person(role)
        self.people[known.id] = known
        token, session = await self.sessions.open(known, Caller(""))
        self.client.cookies.clear()
        self.client.headers["cookie"] = f"session={token}; __Host-session={token}"
        return session


def person(role: Role, name: str = "Ada Kim") -> Account:
    """An account whose passphrase is its own."""
    return accounts.with_passphrase(accounts.new(name, role, "kept", now_us=1), "own", must_change=False)


def sessions_of(log: MemoryLog, clock: ManualClock, people: dict[str, Account]) -> Sessions:
    """Sessions of ten idle minutes and one hour."""
    return Sessions(cast("AuditLog", log), clock, people.get, idle_seconds=600, max_seconds=3600)


@contextlib.asynccontextmanager
async def framed(routes: Sequence[BaseRoute], *, is_secure: bool = False) -> AsyncIterator[Room]:
    """These pages behind a frame of their own."""
    log, clock, people = MemoryLog(), ManualClock(), dict[str, Account]()
    sessions = sessions_of(log, clock, people)
    services = SimpleNamespace(clock=clock)
    app = Starlette(
        routes=list(routes),
        middleware=[
            Middleware(
                Frame,
                services=cast("Services", services),
                sessions=sessions,
                pages=Pages("test/audit/1", "1.0", [], is_dev=False),
                is_secure=is_secure,
            )
        ],
        exception_handlers={HTTPException: _to_frame},
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    url = f"{'https' if is_secure else 'http'}://console.test"
    async with httpx.AsyncClient(transport=transport, base_url=url) as client:
        room = Room(log, clock, sessions, people, client)
        services.refusals = room
        yield room
