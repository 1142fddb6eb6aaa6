"""Saved searches: rows of their accounts, each saved or removed in one transaction with its record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from appliance import db
from appliance.accounts import saved
from appliance.accounts.saved import MAX_FILTERS, MAX_NAME, MAX_OF_ONE_ACCOUNT, SavedSearch
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.core import Principal, Receipt
from appliance.db import Place
from appliance.errors import RequestError


class Searches:
    """Owner of `_changing`: a number that was counted must still hold when a row is written."""

    def __init__(self, *, audit: AuditLog, database: Place, clock: Clock) -> None:
        self._audit = audit
        self._database = database
        self._clock = clock
        self._changing = asyncio.Lock()

    async def of(self, who: Principal) -> Sequence[SavedSearch]:
        """This person's searches, the newest first."""
        return await asyncio.to_thread(self._of, who.key_id)

    async def save(self, who: Principal, name: str, filters: str) -> SavedSearch:
        """Keep a search under a name; an earlier one of it goes. RequestError for what does not fit."""
        name = name.strip()
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise RequestError(
                f"a saved search's name has 1 to {MAX_NAME} printable characters",
                code="invalid_name",
                param="name",
            )
        if len(filters) > MAX_FILTERS:
            raise RequestError("this search is too long to be saved", code="invalid_search")
        async with self._changing:
            known = await asyncio.to_thread(self._of, who.key_id)
            earlier = [each for each in known if each.name == name]
            if len(known) - len(earlier) >= MAX_OF_ONE_ACCOUNT:
                raise RequestError(
                    f"at most {MAX_OF_ONE_ACCOUNT} searches are saved",
                    code="too_many",
                    hint="remove one first",
                )
            now_us = self._clock.now_us()
            for each in earlier:
                await self._put(Kind.SEARCH_REMOVED, saved.removed(each, now_us=now_us), each.name, who)
            made = saved.new(who.key_id, name, filters, now_us=now_us)
            await self._put(Kind.SEARCH_SAVED, made, name, who)
            return made

    async def remove(self, who: Principal, search_id: str) -> SavedSearch:
        """Keep it no more. RequestError where this person has none of this id."""
        async with self._changing:
            known = await self.find(who, search_id)
            gone = saved.removed(known, now_us=self._clock.now_us())
            await self._put(Kind.SEARCH_REMOVED, gone, known.name, who)
            return known

    async def find(self, who: Principal, search_id: str) -> SavedSearch:
        """One of this person's. RequestError where there is none of this id."""
        for each in await self.of(who):
            if each.id == search_id:
                return each
        raise RequestError("there is no such saved search", code="not_found")

    def _of(self, account: str) -> list[SavedSearch]:
        with db.reading(self._database) as connection:
            return saved.of_account(connection, account)

    async def _put(self, kind: Kind, changed: SavedSearch, name: str, who: Principal) -> Receipt:
        row = changed.row()
        return await self._audit.append(
            entry.state_changed(
                kind,
                table=saved.TABLE,
                row_id=changed.id,
                row=row,
                public={},
                content={"name": name, "filters": changed.filters, "principal": entry.person_of(who)},
                effects=lambda connection, _seq: db.put_row(connection, saved.saved_search, row),
            )
        )
