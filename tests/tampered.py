"""A record that has something of everything, and copies of it that somebody tampered with."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance import config, db
from appliance.accounts import codes
from appliance.alone import Alone, open_log_alone
from appliance.audit import entry
from appliance.audit.checkpoint import read_note
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity
from appliance.audit.witness_keys import WitnessKeys, parse_public
from appliance.config import Home
from appliance.core import Caller, Delta, Genre, Outcome, Principal, Role, Usage
from appliance.errors import Refused
from appliance.searches import Searches
from appliance.terms import Limits, Terms
from tests.acts import dev_auditor, erase, signed, with_member
from tests.clocks import ManualClock
from tests.homes import make_home
from tests.modelled import put_everything
from tests.office import HERE, PAUL, approvals_of, erasure
from tests.verifying import unguarded

Row = dict[str, Any]
CALLER = Caller("10.0.0.7", "a browser")
ADA = Principal("p_ada", "Ada", Role.AUDITOR)


async def enrol(alone: Alone, clock: ManualClock) -> None:
    """Somebody with a second factor, after a log-in by it and a wrong try."""
    made = await alone.people.create("Cy Moss", Role.PRIVACY)
    offered = alone.people.factors.offer(made.account)
    step = codes.step_of(clock.now_us())
    first, second = (codes.code_at(offered.secret, offered.algorithm, each) for each in (step - 1, step))
    await alone.people.factors.confirm(made.account, offered, first, CALLER)
    await alone.people.log_in("Cy Moss", made.passphrase, CALLER, code=second)
    with contextlib.suppress(Refused):
        await alone.people.log_in("Cy Moss", made.passphrase, CALLER, code=second)


def written_home(root: Path) -> Home:
    """A home whose record has something of everything, at rest in one file."""
    home = make_home(root)
    clock = ManualClock(2_000_000_000_000_000)
    settings = config.parse(
        home.config.read_text().replace("[audit]", '[audit]\nretention_days = { "key:created" = 190 }')
    )
    with open_log_alone(home, settings, clock) as alone:

        async def keys() -> None:
            for name in ("lobby", "counter", "desk"):
                await alone.administration.create_key(name, Role.KIOSK, stores_responses=True)
            await alone.administration.change_key("lobby", Terms(addresses=("10.1.0.0/16",)))
            await alone.administration.create_key("mail", Role.KIOSK, terms=Terms(limits=Limits(priority=2)))
            await alone.administration.rotate_key("counter", overlap_seconds=3600)
            await alone.administration.revoke_key("desk")
            for text in ("First.", "Second."):
                await alone.publishing.publish(Genre.PROMPT, "lobby", text)
            await alone.publishing.withdraw(Genre.PROMPT, "lobby@1")
            await alone.people.create("Ada Kim", Role.OPERATOR, expires_seconds=86_400)
            await alone.people.create("Bo Lind", Role.PRIVACY)
            await alone.people.disable("Bo Lind")
            await put_everything(alone)
            await enrol(alone, clock)
            searches = Searches(audit=alone.audit, database=db.of(home, settings), clock=clock)
            kept = await searches.save(ADA, "failures", '{"outcomes": ["failed"]}')
            await searches.save(ADA, "refusals", '{"look": "refusals"}')
            await searches.remove(ADA, kept.id)

        asyncio.run(keys())
        for number in range(6):
            request = f"req_{number}"
            opened = alone.audit.append_sync(
                Entry(
                    kind=Kind.REQUEST_OPENED,
                    public={"model": "m", "model_sha256": "0" * 64, "stream": 1},
                    content={"text": "question"},
                    request_id=request,
                    actor="key",
                )
            )
            alone.audit.append_sync(
                entry.segment(request, opened.seq, 0, Delta("answer", 2), subject="key:k")
            )
            alone.audit.append_sync(
                entry.closed(
                    request, opened.seq, model="m", outcome=Outcome.STOP, usage=Usage(3, 2), num_segments=1
                )
            )
            if number == 3:
                clock.advance(700)
        asyncio.run(ceremonies(alone, home, clock))
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return home


async def ceremonies(alone: Alone, home: Home, clock: ManualClock) -> None:
    """A second policy, an erasure that its members agreed to, holds, and contents whose time is over."""
    auditor, privacy = dev_auditor(home), Identity.generate("privacy")
    draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
    await alone.custody.change_policy(signed(draft, auditor))
    assert await erase(alone, auditor, privacy, key="k") == 1
    for user in ("one", "two"):
        await alone.custody.hold(api_key="", user=user, since_us=0, until_us=1, reason="a case")
    await alone.hosted.store("p_ada", Role.AUDITOR, auditor, "correct horse battery")
    await alone.hosted.store("p_paul", Role.PRIVACY, privacy, "correct horse battery")
    await alone.hosted.remove("p_paul")
    approvals = approvals_of(alone, home, clock)
    waiting = await approvals.draft(erasure(alone, "one"), PAUL, HERE)
    await approvals.sign(waiting.row.id, privacy, PAUL, HERE)
    given_up = await approvals.draft(erasure(alone, "two"), PAUL, HERE)
    await approvals.withdraw(given_up.row.id, "a mistake", PAUL, HERE)
    for name in ("court", "press"):
        keys = WitnessKeys.generate(name)
        await alone.witnessing.add(parse_public(keys.public()))
        note = home.head.read_text()
        text = read_note(note).text
        said = "".join(each.cosign(text, 1_800_000_000) for each in keys.cosigners)
        await alone.witnessing.take(note + said)
    clock.advance(200 * 86_400)
    assert [each.num_contents for each in await alone.custody.retain()] == [5]


@contextlib.contextmanager
def tampered(home: Home, tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """A copy without its triggers; they are put back, so that the schema is not what tells."""
    copy = tmp_path / "copy.db"
    shutil.copy(home.database, copy)
    with unguarded(copy) as connection:
        yield connection, copy


def tables(path: Path) -> list[str]:
    """Every table, as the database itself tells."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in rows]


def rows_of(path: Path, table: str) -> list[Row]:
    """A table's rows by column."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def keys_of(path: Path, table: str) -> list[str]:
    """The columns of a table's primary key."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]


def dump(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that all tables say, with the types that it is stored as."""
    found = {}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table in tables(path):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            typed = ", ".join(f"{name}, typeof({name})" for name in names)
            found[table] = connection.execute(f"SELECT {typed} FROM {table}").fetchall()
    return found
