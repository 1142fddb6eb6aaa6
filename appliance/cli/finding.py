"""Search by name: what stands for a key, a person, a session or an address in the entries of each month.

This month's index key is the appliance's, which computes with it. Those of months before are opened here,
with an auditor's identity, and their shares are released on the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.audit import naming, query
from appliance.audit.blind import IndexKey
from appliance.audit.kinds import Kind
from appliance.audit.search import Blinds, Filters, Name
from appliance.cli.base import command_gateway, database_of, warn
from appliance.cli.reading import identities_of, on_record
from appliance.commands import BlindIndexes
from appliance.config import Home
from appliance.why import Why


def blinds_of(home: Home, filters: Filters, identity_paths: Sequence[Path], why: Why) -> Blinds:
    """What stands for the filters' names in this month, and with an identity in all months before it."""
    place = database_of(home)
    answer = command_gateway(home, BlindIndexes(fields=filters.names))
    keys: list[IndexKey] = []
    # Also of this month, where the appliance lost a key and made another.
    missing = naming.months(place, filters).without(answer["key_sha256"])
    if missing and identity_paths:
        identities = identities_of(home, identity_paths)
        needed = query.shares_of(missing)
        shares = on_record(
            home,
            None,
            Kind.AUDIT_RELEASED,
            {"num_records": len(missing), "num_shares": len(needed)},
            {"targets": [str(each.seq) for each in missing], "for": "a search by name in earlier months"},
            needed,
            why=why,
            reader=" ".join(each.recipient.fingerprint for each in identities),
        )
        keys = naming.keys_of(place, missing, identities, shares)
    elif missing:
        warn("only under this month's key: those before are the auditors' alone (--identity FILE)")
    earlier = naming.blinds_of(keys, filters.names)
    found: dict[Name, list[bytes]] = {}
    for name in filters.names:
        own = [bytes.fromhex(answer["blinds"][name])] if answer["blinds"] else []
        found[name] = [*own, *earlier[name]]
    return found
