"""What the record tells to whoever runs the box: alarms, copies, releases. Headers only, and of no request.

These kinds name nobody and hold nothing of any question, so that looking at them is no reading of the record.
"""

from __future__ import annotations

from typing import Final

from appliance import db
from appliance.audit import search, store
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.db import Place

ALARMS: Final = (
    Kind.LOG_ALARM,
    Kind.LOG_RECOVERED,
    Kind.LOG_VERIFIED,
    Kind.MODEL_FAILED,
    Kind.CLOCK_STEPPED,
    Kind.ACCOUNT_LOCKED,
    Kind.BUNDLE_REFUSED,
    Kind.BUNDLE_ROLLED_BACK,
)
_MAX_VERIFICATIONS: Final = 500  # that were green and are passed over: almost three weeks of them
HISTORY: Final = (
    Kind.LOG_STARTED,
    Kind.LOG_RESTORED,
    Kind.CONFIG_CHANGED,
    Kind.DATABASE_UPGRADED,
    Kind.DATABASE_RESTORED,
    Kind.BOX_RESTORED,
    Kind.SHARES_RESTORED,
    Kind.POLICY_CHANGED,
    Kind.MODEL_LOADED,
    Kind.BUNDLE_VERIFIED,
    Kind.BUNDLE_REFUSED,
    Kind.BUNDLE_INSTALLED,
    Kind.BUNDLE_ROLLED_BACK,
    Kind.BUNDLE_REPAIRED,
)


def alarms(place: Place, *, since_us: int, limit: int) -> list[Record]:
    """What somebody should know of since a moment, newest first; verifications only where they were red."""
    found = _newest(place, ALARMS, since_us=since_us, limit=max(limit, _MAX_VERIFICATIONS))
    told = [each for each in found if each.kind is not Kind.LOG_VERIFIED or each.public["findings"] != 0]
    return told[:limit]


def history(place: Place, *, limit: int) -> list[Record]:
    """Bundles, releases, configurations and what was put back, newest first."""
    return _newest(place, HISTORY, since_us=None, limit=limit)


def last_of(place: Place, kind: Kind) -> int | None:
    """When there was an entry of this kind last, microseconds UTC."""
    with db.reading(place) as connection:
        found = store.header_of_last(connection, kind)
    return None if found is None else found.ts


def _newest(place: Place, kinds: tuple[Kind, ...], *, since_us: int | None, limit: int) -> list[Record]:
    return list(search.search(place, search.Filters(kinds=kinds, since_us=since_us), limit=limit).records)
