"""What the appliance runs with, on the record where it changed."""

from __future__ import annotations

import hashlib

import msgspec

from appliance import db
from appliance.audit import store
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.config import EMBEDDED, Home, Settings


async def record(audit: AuditLog, home: Home, settings: Settings) -> None:
    """What the appliance runs with, where it differs from the last time: the digest, and sealed the whole."""
    told = msgspec.to_builtins(settings)
    database = db.of(home, settings)
    if settings.database_url != EMBEDDED:
        told["database_url"] = str(database)  # without a password, wherever the URL holds one
    digest = hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()
    with db.reading(database) as connection:
        last = store.header_of_last(connection, Kind.CONFIG_CHANGED)
    previous = str(last.pub["config_sha256"]) if last is not None else ""
    if digest != previous and audit.is_ready:
        await audit.append(
            Entry(
                kind=Kind.CONFIG_CHANGED,
                public={"config_sha256": digest, "previous_sha256": previous},
                content={"settings": told},
            )
        )
