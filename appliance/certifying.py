"""Keeps the certificate that is served: on the record when it changes, told about when it can not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.config import Home, Server
from appliance.errors import AuditUnavailable, SetupError
from appliance.log import get_logger
from appliance.tls.certificates import utc
from appliance.tls.clients import Clients
from appliance.tls.serving import Files, Serving

LOOK_SECONDS = 5.0

log = get_logger(__name__)


class Certifying:
    """Owner of the served certificate: the event loop's thread."""

    def __init__(self, server: Server, audit: AuditLog, clock: Clock, home: Home | None = None) -> None:
        self._audit = audit
        self._clock = clock
        self._was_over = False
        files = Files(server.certificate, server.key, server.tls_oldest, home)
        self.serving = Serving(files, clock, clients_of(server))

    async def begin(self) -> None:
        """What is served from now on, on the record."""
        await self._record(self._served())

    async def watch_for_ever(self) -> None:
        """Look at the files now and then. Whatever is wrong with them, what was served goes on."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Serve another certificate where there is one; raise an alarm where it can't be, or time is over."""
        try:
            if self.serving.refresh():
                await self._record(self._served())
                log.info("certificate_changed", not_after=self.serving.about.ends_at)
        except SetupError as error:
            log.error("certificate_not_taken", code=error.code)
            await self._record(_alarm("certificate_not_taken"))
        is_over = self.serving.is_over
        if is_over and not self._was_over:
            log.error("certificate_over", not_after=self.serving.about.ends_at)
            await self._record(_alarm("certificate_over"))
        self._was_over = is_over

    def _served(self) -> Entry:
        about = self.serving.about
        return Entry(
            kind=Kind.CERTIFICATE_SERVED,
            public={"certificate_sha256": about.sha256, "not_after": about.ends_at},
            content={"names": list(about.names), "subject": about.subject, "issuer": about.issuer},
        )

    async def _record(self, entry: Entry) -> None:
        try:
            await self._audit.append(entry)
        except AuditUnavailable:
            # The latch tells the same on /readyz, and nobody is admitted meanwhile.
            log.warning("certificate_unrecorded", event_kind=str(entry.kind))


def clients_of(server: Server) -> Clients | None:
    """Whose certificates are asked for; None: nobody's."""
    if server.client_certificates == "off":
        return None
    return Clients(
        authorities=Path(server.client_ca),
        revoked=Path(server.client_crl) if server.client_crl else None,
        is_required=server.client_certificates == "required",
    )


def state_of(serving: Serving, now_us: int) -> str:
    """`valid`, `renew` (less than a third of its time is left), `not_taken` or `over`."""
    state = serving.about.state(utc(now_us))
    return "not_taken" if serving.problem and state != "over" else state


def _alarm(code: str) -> Entry:
    return Entry(kind=Kind.LOG_ALARM, public={"code": code})
