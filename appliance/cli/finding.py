"""Search by name: what stands for a key or a person in the entries of each month.

This month's index key is the appliance's, which computes with it and keeps it. Those of months before are
the auditors' alone: they lie in `index:opened` entries, whose shares are released on the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.audit import query
from appliance.audit.blind import IndexKey
from appliance.audit.entry import Kind
from appliance.audit.recipients import Identity
from appliance.cli.base import command_gateway, database_of, warn
from appliance.cli.reading import identities_of, on_record
from appliance.commands import BlindIndexes, Field
from appliance.config import Home
from appliance.errors import VerificationError


def blinds_of(
    home: Home, fields: dict[Field, str], identity_paths: Sequence[Path]
) -> dict[Field, list[bytes]]:
    """The blind indexes of each field, for this month, and with an identity for all months before it."""
    answer = command_gateway(home, BlindIndexes(fields=fields))
    found = {name: [bytes.fromhex(answer["blinds"][name])] if answer["blinds"] else [] for name in fields}
    opened = query.search(database_of(home), kind=Kind.INDEX_OPENED, limit=query.MAX_LIMIT)
    # Also of this month, where the appliance lost a key and made another.
    earlier = [each for each in opened if each.public["key_sha256"] != answer["key_sha256"]]
    if not earlier:
        return found
    if not identity_paths:
        warn("only under this month's key: those before are the auditors' alone (--identity FILE)")
        return found
    for key in _keys(home, earlier, identities_of(home, identity_paths)):
        for name, value in fields.items():
            found[name].append(key.blind(name, value))
    return found


def _keys(home: Home, records: list[query.Record], identities: list[Identity]) -> list[IndexKey]:
    needed = query.shares_of(records)
    shares = on_record(
        home,
        None,
        Kind.AUDIT_RELEASED,
        {"num_records": len(records), "num_shares": len(needed)},
        {"targets": [str(each.seq) for each in records], "purpose": "a search by name in earlier months"},
        needed,
    )
    keys = []
    for each in query.open_records(database_of(home), records, identities, shares):
        key = IndexKey(str(each.record.public["month"]), bytes.fromhex(str((each.content or {})["key"])))
        if key.sha256 != each.record.public["key_sha256"]:
            raise VerificationError(f"entry {each.record.seq} holds another key than it commits to")
        keys.append(key)
    return keys
