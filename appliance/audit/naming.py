"""Names in a search: what stands for a key, a person, a session or an address in each month's entries.

This month's index key is the appliance's, which computes with it and keeps it. Those of months before are
the auditors' alone: they lie in `index:opened` entries, and open like every content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.audit import blind, query
from appliance.audit.blind import IndexKey
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.audit.recipients import Identity
from appliance.audit.search import Blinds, Filters, Name
from appliance.db import Place
from appliance.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Months:
    """The `index:opened` entries of the time that is searched, the newest first."""

    records: tuple[Record, ...]

    def without(self, key_sha256: str) -> list[Record]:
        """Those whose key must be opened first."""
        return [each for each in self.records if each.public["key_sha256"] != key_sha256]

    def known_since(self, keys: Sequence[IndexKey]) -> int | None:
        """From which moment on names can be looked for with these keys, in microseconds; None: always."""
        held = {each.sha256 for each in keys}
        since = None
        for each in self.records:
            if each.public["key_sha256"] not in held:
                return each.ts + 1 if since is None else since
            since = each.ts
        return None


def months(place: Place, filters: Filters) -> Months:
    """Which months' keys a search by name needs."""
    opened = query.search(place, kind=Kind.INDEX_OPENED, limit=query.MAX_LIMIT)
    since = "" if filters.since_us is None else blind.month_of(filters.since_us)
    until = "9999-99" if filters.until_us is None else blind.month_of(filters.until_us)
    return Months(tuple(each for each in opened if since <= str(each.public["month"]) <= until))


def keys_of(
    place: Place, records: Sequence[Record], identities: Sequence[Identity], shares: Mapping[str, bytes]
) -> list[IndexKey]:
    """The index keys in `index:opened` entries. VerificationError where one is not what it commits to."""
    keys = []
    for each in query.open_records(place, records, identities, shares):
        if each.content is None:
            continue  # its share is erased: nobody finds names of that month any more
        key = IndexKey(str(each.record.public["month"]), bytes.fromhex(str(each.content["key"])))
        if key.sha256 != each.record.public["key_sha256"]:
            raise VerificationError(f"entry {each.record.seq} holds another key than it commits to")
        keys.append(key)
    return keys


def blinds_of(keys: Sequence[IndexKey], names: Mapping[Name, str]) -> Blinds:
    """What stands for each name, under each key."""
    return {name: [key.blind(name, value) for key in keys] for name, value in names.items()}
