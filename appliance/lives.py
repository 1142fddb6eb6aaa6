"""Workers' lives on the record: loaded, failed, unloaded."""

from __future__ import annotations

import asyncio

from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.engine.conduct import ALARMING
from appliance.engine.events import EngineEvent, ModelFailed, ModelLoaded, ModelUnloaded
from appliance.errors import AuditUnavailable
from appliance.log import get_logger

log = get_logger(__name__)


class Lives:
    """Puts the workers' lives on the record. Owner of `_writing`: the event loop's thread."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._writing: set[asyncio.Task[None]] = set()

    def on_event(self, event: EngineEvent) -> None:
        """Called by an engine, inside the event loop; the write goes its own way."""
        task = asyncio.create_task(self._record(event))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def settle(self) -> None:
        """Wait for what is being written."""
        if self._writing:
            await asyncio.gather(*self._writing)

    async def _record(self, event: EngineEvent) -> None:
        try:
            for entry in _entries_of(event):
                await self._audit.append(entry)
        except AuditUnavailable:
            # The latch tells the same on /readyz; the worker's life goes on without admissions.
            log.warning("engine_event_unrecorded", event_kind=type(event).__name__)


def _entries_of(event: EngineEvent) -> list[Entry]:
    match event:
        case ModelLoaded():
            return [
                Entry(
                    kind=Kind.MODEL_LOADED,
                    public={
                        "model": event.model.id,
                        "model_sha256": event.model.sha256,
                        "backend": event.ready.backend,
                        "library": event.ready.library,
                        "load_us": event.ready.load_us,
                        "verify_us": event.verify_us,
                        "why": event.why,
                        "sandbox": " ".join(event.ready.sandbox),
                        "fallback": event.ready.fallback or "",
                    },
                )
            ]
        case ModelFailed():
            failed = Entry(kind=Kind.MODEL_FAILED, public={"model": event.model.id, "code": event.code})
            if event.code not in ALARMING:
                return [failed]
            return [failed, Entry(kind=Kind.LOG_ALARM, public={"code": event.code})]
        case ModelUnloaded():
            public = {"model": event.model.id, "model_sha256": event.model.sha256, "why": event.why}
            return [Entry(kind=Kind.MODEL_UNLOADED, public=public)]
