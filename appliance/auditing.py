"""The one door for readers of the record: every search and every reading, whoever asks and wherever from.

Each is on the record, with who, why and what was looked for (sealed), before its result is returned; where
it can not be recorded, nothing is. A reader who asks for more than `audit.searches_per_hour` or
`audit.reads_per_hour` is refused, and the record says so once an hour. The count is the record's own, so
a restart forgives nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from appliance import db
from appliance.audit import blind, files, naming, proving, query, text, volume
from appliance.audit.blind import IndexKey
from appliance.audit.entry import Entry, person_of
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.proof import Proof
from appliance.audit.query import Opened, Record
from appliance.audit.recipients import Identity
from appliance.audit.search import MAX_LIMIT, Blinds, Filters, Page, search
from appliance.audit.text import Found
from appliance.audit.timeline import Timeline, timeline
from appliance.audit.volume import Volume
from appliance.clock import Clock
from appliance.config import Audit, Home
from appliance.core import Caller, Principal, Receipt
from appliance.custody import Custody
from appliance.databases.base import Database
from appliance.errors import Unavailable
from appliance.why import Why

_T = TypeVar("_T")

THREADS: Final = 4
TEXT_BATCH: Final = 128  # exchanges whose shares are released by one entry


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry as everybody may see it, and whether the newest signed tree holds it."""

    record: Record
    proof: Proof | None  # none where no tree that the log has signed includes the entry
    tree_size: int
    verified: bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """All of the record about one request, or one entry, with contents; each with its place in the tree."""

    records: tuple[Opened, ...] = field(repr=False)
    proofs: Mapping[int, tuple[int, bool]]  # seq → (tree size, whether it is included)

    @property
    def verified(self) -> bool:
        """Whether every entry is included in the tree that the log signed."""
        return all(included for _, included in self.proofs.values())


class Auditing:
    """Searches and readings. Owner of `_asking`: one reader's count and entry are one step."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        custody: Custody,
        home: Home,
        database: Database,
        clock: Clock,
        settings: Audit,
    ) -> None:
        self._audit = audit
        self._custody = custody
        self._home = home
        self._database = database
        self._clock = clock
        self._settings = settings
        self._verifier = files.read_verifier(home)
        # Threads of their own: readers who wait keep nobody else from theirs, and are few at a time.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="auditing")
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def search(
        self,
        who: Principal,
        caller: Caller,
        filters: Filters,
        why: Why,
        *,
        cursor: str | None = None,
        limit: int = 50,
        oldest_first: bool = False,
        identities: Sequence[Identity] = (),
    ) -> Page:
        """One page of what the filters find; with identities, names of earlier months too."""
        await self.require_volume(who.key_id, Kind.AUDIT_SEARCHED)
        blinds, since = await self._blinds(who, caller, filters, why, identities)
        page = await self._run(
            search,
            self._database,
            filters,
            blinds,
            cursor=cursor,
            limit=limit,
            oldest_first=oldest_first,
            clock=self._clock,
        )
        asked = {"filters": filters.given(), "cursor": cursor, "limit": limit, "oldest_first": oldest_first}
        await self._say(who, caller, why, Kind.AUDIT_SEARCHED, {"num_results": len(page.records)}, asked)
        return Page(page.records, page.next_cursor, page.searched_to_us, since)

    async def pages(
        self, who: Principal, caller: Caller, filters: Filters, why: Why, *, oldest_first: bool = False
    ) -> AsyncGenerator[Page]:
        """Everything that the filters find, in pages. On the record before the first and behind the last."""
        await self.require_volume(who.key_id, Kind.AUDIT_EXPORTED)
        blinds, since = await self._blinds(who, caller, filters, why, ())
        asked = {"filters": filters.given(), "oldest_first": oldest_first, "whole": True}
        receipt = await self._say(who, caller, why, Kind.AUDIT_SEARCHED, {}, asked)
        cursor = None
        count = 0
        try:
            while True:
                page = await self._run(
                    search,
                    self._database,
                    filters,
                    blinds,
                    cursor=cursor,
                    limit=MAX_LIMIT,
                    oldest_first=oldest_first,
                    clock=self._clock,
                )
                # What came behind the beginning is not part of it: this reading's own entries above all.
                records = tuple(each for each in page.records if each.seq < receipt.seq)
                count += len(records)
                yield Page(records, page.next_cursor, page.searched_to_us, since)
                cursor = page.next_cursor
                if cursor is None or (oldest_first and len(records) < len(page.records)):
                    break
        finally:
            public = {"num_records": count, "begin": 0, "end": receipt.seq}
            await self._audit.append(self._entry(who, caller, why, Kind.AUDIT_EXPORTED, public, asked))

    async def timeline(
        self,
        who: Principal,
        caller: Caller,
        filters: Filters,
        why: Why,
        *,
        buckets: int = 60,
        identities: Sequence[Identity] = (),
    ) -> Timeline:
        """How many exchanges ended how, and what else happened, over time."""
        await self.require_volume(who.key_id, Kind.AUDIT_SEARCHED)
        blinds, _ = await self._blinds(who, caller, filters, why, identities)
        found = await self._run(timeline, self._database, filters, blinds, buckets=buckets, clock=self._clock)
        public = {"num_results": sum(found.total.values())}
        asked = {"filters": filters.given(), "buckets": buckets}
        await self._say(who, caller, why, Kind.AUDIT_SEARCHED, public, asked)
        return found

    async def entry(self, who: Principal, caller: Caller, seq: int, why: Why) -> Proven:
        """One entry's header and its proof. RequestError where there is none."""
        found = await self._run(self._proven, seq)
        await self._say(who, caller, why, Kind.AUDIT_READ, {"target": seq}, {"header_only": True})
        return found

    async def headers(self, who: Principal, caller: Caller, target: str, why: Why) -> Exchange:
        """The exchange that a sequence number or a request id belongs to, sealed as it is. As `read`."""
        records = await self._run(query.exchange, self._database, target)
        public: dict[str, str | int] = {"target": records[0].seq}
        await self._say(who, caller, why, Kind.AUDIT_READ, public, {"target": target, "header_only": True})
        opened = await self._run(query.unopened, self._database, records)
        return Exchange(tuple(opened), await self._run(self._proofs, records))

    async def read(
        self, who: Principal, caller: Caller, target: str, why: Why, identities: Sequence[Identity]
    ) -> Exchange:
        """The exchange that a sequence number or a request id belongs to, opened.

        RequestError where there is none; VerificationError where a content does not open.
        """
        records = await self._run(query.exchange, self._database, target)
        asked = {"target": target, "readers": [each.recipient.fingerprint for each in identities]}
        public: dict[str, str | int] = {"target": records[0].seq}
        entry = self._entry(who, caller, why, Kind.AUDIT_READ, public, asked)
        _, shares = await self.recorded(entry, query.shares_of(records))
        opened = await self._run(query.open_records, self._database, records, identities, shares)
        proofs = await self._run(self._proofs, records)
        return Exchange(tuple(opened), proofs)

    async def find_text(
        self,
        who: Principal,
        caller: Caller,
        wanted: str,
        filters: Filters,
        why: Why,
        identities: Sequence[Identity],
    ) -> AsyncGenerator[Found]:
        """Exchanges, newest first, whose contents hold a text; also how far the search has come.

        The filters narrow it first. Shares of each batch are released on the record before it is opened.
        """
        text.check(wanted)
        blinds, _ = await self._blinds(who, caller, filters, why, identities)
        asked = {"filters": filters.given(), "text": wanted}
        await self._say(who, caller, why, Kind.AUDIT_SEARCHED, {}, asked)
        search_through = text.Exchanges(self._database, filters, blinds, clock=self._clock)
        while batch := await self._run(search_through.next, TEXT_BATCH):
            records = [each for exchange in batch.exchanges for each in exchange]
            needed = query.shares_of(records)
            shares: Mapping[str, bytes] = {}
            if needed:
                public: dict[str, str | int] = {"num_records": len(records), "num_shares": len(needed)}
                entry = self._entry(who, caller, why, Kind.AUDIT_RELEASED, public, asked)
                _, shares = await self.recorded(entry, needed)
            yield await self._run(text.find, self._database, batch, wanted, identities, shares)

    async def recorded(self, entry: Entry, shares: Sequence[str] = ()) -> tuple[Receipt, dict[str, bytes]]:
        """Put a reading on the record, unless its reader has had enough; the shares that it needs.

        `entry.actor` is the reader. Unavailable, code `read_limit`, above the volume.
        """
        reader = str(entry.actor)
        async with self._asking[reader]:
            await self.require_volume(reader, entry.kind)
            receipt, released = await self._custody.release(entry, list(shares))
        return receipt, {name: bytes.fromhex(secret) for name, secret in released.items()}

    async def checkpoint(self) -> str:
        """The newest signed checkpoint."""

        def newest() -> str:
            with db.reading(self._database) as connection:
                return proving.newest(connection)

        return await self._run(newest)

    async def volume(self, reader: str) -> Volume:
        """What a reader has had within the hour, and may still have."""
        return await self._run(self._volume, reader)

    async def require_volume(self, reader: str, kind: Kind) -> None:
        """Unavailable, code `read_limit`, where a reader has had enough; on the record once an hour."""
        found = await self._run(self._volume, reader)
        wait = found.wait_seconds(kind)
        if not wait:
            return
        if not found.is_told:
            await self._audit.append(
                Entry(
                    kind=Kind.LOG_ALARM,
                    public={"code": volume.ALARM},
                    content={"reader": reader},
                    actor=reader,
                )
            )
        raise Unavailable(
            "this reader has had the searches or readings of an hour",
            code="read_limit",
            hint="audit.searches_per_hour and audit.reads_per_hour set the limits",
            retry_after_seconds=wait,
        )

    async def _run(self, function: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(function, *arguments, **options))

    def _volume(self, reader: str) -> Volume:
        now_us = self._clock.now_us()
        key = blind.existing_key(self._home, blind.month_of(now_us))
        index = None if key is None else key.blind("key", reader)
        with db.reading(self._database) as connection:
            return volume.look(
                connection,
                index,
                now_us=now_us,
                searches=self._settings.searches_per_hour,
                reads=self._settings.reads_per_hour,
            )

    def _entry(
        self,
        who: Principal,
        caller: Caller,
        why: Why,
        kind: Kind,
        public: Mapping[str, str | int],
        asked: Mapping[str, Any],
    ) -> Entry:
        return Entry(
            kind=kind,
            public=public,
            content={
                **asked,
                "purpose": why.purpose,
                "case": why.case,
                "principal": person_of(who),
                "caller": caller.told(),
            },
            actor=who.key_id,
        )

    async def _say(
        self,
        who: Principal,
        caller: Caller,
        why: Why,
        kind: Kind,
        public: Mapping[str, str | int],
        asked: Mapping[str, Any],
    ) -> Receipt:
        receipt, _ = await self.recorded(self._entry(who, caller, why, kind, public, asked))
        return receipt

    async def _blinds(
        self, who: Principal, caller: Caller, filters: Filters, why: Why, identities: Sequence[Identity]
    ) -> tuple[Blinds, int | None]:
        """What stands for the filters' names, and from when on; None: for all the time that is searched."""
        if not filters.names:
            return {}, None
        found = await self._run(naming.months, self._database, filters)
        own = blind.existing_key(self._home, blind.month_of(self._clock.now_us()))
        keys: list[IndexKey] = [] if own is None else [own]
        missing = found.without("" if own is None else own.sha256)
        if missing and identities:
            needed = query.shares_of(missing)
            public: dict[str, str | int] = {"num_records": len(missing), "num_shares": len(needed)}
            asked = {"targets": [each.seq for each in missing], "for": "a search by name in earlier months"}
            entry = self._entry(who, caller, why, Kind.AUDIT_RELEASED, public, asked)
            _, shares = await self.recorded(entry, needed)
            keys += await self._run(naming.keys_of, self._database, missing, identities, shares)
        return naming.blinds_of(keys, filters.names), found.known_since(keys)

    def _proven(self, seq: int) -> Proven:
        with db.reading(self._database) as connection:
            record = query.record_of(proving.header_of(connection, seq))
        tree_size, verified = query.prove(self._database, record, self._verifier)
        with db.reading(self._database) as connection:
            proof = proving.prove(connection, seq) if verified else None
        return Proven(record, proof, tree_size, verified)

    def _proofs(self, records: Sequence[Record]) -> dict[int, tuple[int, bool]]:
        return {each.seq: query.prove(self._database, each, self._verifier) for each in records}
