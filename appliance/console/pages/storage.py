"""Storage: what lies on the disk and how long it lasts, what goes when, backups, and the appliance's history.

As on the health page, looking leaves no record: sizes, counts, and entries that are about no request.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from appliance import db, storage
from appliance.accounts.roles import Permission
from appliance.audit import happenings
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.console.frame import call_of, render, route, see
from appliance.console.pages.forms import not_done
from appliance.console.plots import Plot, Series
from appliance.console.render import NavItem
from appliance.errors import RequestError, Unavailable
from appliance.storage import Holdings

_MAX_HISTORY: Final = 40
_MIB: Final = 1 << 20


async def page(request: Request) -> Response:
    """All of it."""
    return await _page(request)


async def _page(request: Request, problem: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    services = call_of(request).services
    settings = services.settings.audit
    place = db.of(services.home, services.settings)
    now_us = services.clock.now_us()
    holdings = await asyncio.to_thread(
        storage.look,
        services.home,
        place,
        now_us=now_us,
        share_backup_days=settings.share_backup_days,
    )
    history = await asyncio.to_thread(happenings.history, place, limit=_MAX_HISTORY)
    room = services.audit.room
    return render(
        request,
        "operator/storage.html",
        status=status,
        active="/storage",
        now_us=now_us,
        holdings=holdings,
        room=room,
        min_free_mib=settings.min_free_mib,
        forecast=storage.forecast(holdings, room, now_us=now_us, min_free_bytes=settings.min_free_mib * _MIB),
        plot=plot_of(holdings),
        coming=await services.custody.coming(),
        due={each.kind: each.num_contents for each in await services.custody.retain(dry_run=True)},
        copying=services.copies.state,
        history=[(each.ts, each.seq, words_of(each)) for each in history],
        share_backup_days=settings.share_backup_days,
        problem=problem,
    )


async def back_up(request: Request) -> Response:
    """A copy, now. It goes on by itself; the page tells how it went."""
    call = call_of(request)
    try:
        call.services.copies.start(call.principal)
    except (RequestError, Unavailable) as problem:
        return await _page(request, *await not_done(request, problem))
    call.known.notice = "The backup is being made. This page tells when it is there."
    return see("/storage")


def plot_of(holdings: Holdings) -> Plot:
    """Entries of each of the last days."""
    days = holdings.days
    return Plot(
        "Entries",
        "per day, UTC",
        [each.begin_us for each in days],
        [Series("entries", [each.num_entries for each in days])],
        is_stacked=True,
        labels=[f"{datetime.fromtimestamp(each.begin_us / 1e6, tz=UTC):%d %b}" for each in days],
    )


def words_of(record: Record) -> tuple[str, str]:
    """An entry of the history: what happened, and its particulars."""
    public = record.public
    match record.kind:
        case Kind.LOG_STARTED:
            stands_on = [str(public.get(each, "")) for each in ("database", "openssl", "filesystem")]
            return f"Release {public.get('version', '')} started", ", ".join(filter(None, stands_on))
        case Kind.CONFIG_CHANGED:
            return "Other settings than the last time", f"sha256 {str(public['config_sha256'])[:16]}…"
        case Kind.DATABASE_UPGRADED:
            return (
                f"The database was upgraded to schema {public['to_revision']}",
                f"from {public['from_revision']}; backup sha256 {str(public['backup_sha256'])[:16]}…",
            )
        case Kind.DATABASE_RESTORED:
            return "A copy took the database's place", f"{public['tree_size']} entries"
        case Kind.BOX_RESTORED:
            return "This home came out of a box file", f"its head remembered {public['tree_size']} entries"
        case Kind.SHARES_RESTORED:
            return "Shares came back from a copy", f"{public['num_shares']} shares"
        case Kind.POLICY_CHANGED:
            return "Another key policy is in force", f"{public['num_recipients']} recipients"
        case Kind.LOG_RESTORED:
            return "The log began anew behind an older copy", f"after {public['old_origin']}"
        case Kind.MODEL_LOADED:
            return (
                f"Model {public['model']} loaded",
                f"sha256 {str(public['model_sha256'])[:16]}…; {public['library']}, {public['backend']}",
            )
    return _words_of_bundle(record)


def _words_of_bundle(record: Record) -> tuple[str, str]:
    """What happened to a release that was carried in."""
    public = record.public
    name = f"{public.get('release') or 'unknown'}, serial {public.get('serial') or 'unknown'}"
    digest = f"sha256 {str(public.get('sums_sha256') or 'unknown')[:16]}"
    match record.kind:
        case Kind.BUNDLE_VERIFIED:
            return f"Bundle {name} is as its signers signed it", f"{public['num_files']} files; {digest}"
        case Kind.BUNDLE_REFUSED:
            return f"Bundle {name} was refused", f"{public['reason']}; {digest}"
        case Kind.BUNDLE_INSTALLED:
            before = public.get("from_serial")
            return f"Release {name} was installed", f"after serial {before}" if before else "the first one"
        case Kind.BUNDLE_ROLLED_BACK:
            return f"Release {name} failed, and the host went back", str(public["reason"])
        case Kind.BUNDLE_REPAIRED:
            return f"Release {name} was built again", f"for Python {public['python']}"
    return str(record.kind), ""


ROUTES = [
    route("/storage", page, Permission.SEE_HEALTH),
    route("/storage/backup", back_up, Permission.MAKE_BACKUPS, methods=("POST",)),
]
MENU = [NavItem("Storage", "/storage", Permission.SEE_HEALTH)]
