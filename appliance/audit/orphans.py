"""What a process left open when it died: each opening gets its one closing (law 3)."""

from __future__ import annotations

from sqlalchemy import Connection

from appliance.audit import entry, store
from appliance.audit.entry import Entry
from appliance.audit.header import decode_header
from appliance.audit.kinds import Kind
from appliance.core import Outcome


def orphans(connection: Connection) -> list[Entry]:
    """The closings that are missing behind the last start or recovery."""
    after = store.last_seq_of(connection, (Kind.LOG_STARTED, Kind.LOG_RECOVERED))
    return [
        entry.closed(
            request_id,
            seq,
            model=str(decode_header(data).pub["model"]),
            outcome=Outcome.RECOVERED,
            code="interrupted",
            num_segments=store.num_segments(connection, request_id),
        )
        for seq, request_id, data in store.open_requests(connection, after)
    ]
