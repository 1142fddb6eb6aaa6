"""`create_console(services, api)`: people's pages. One application object, on a port of its own."""

from __future__ import annotations

from typing import NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

import appliance
from appliance.console.frame import Frame, call_of, route
from appliance.console.language import words_of
from appliance.console.pages import (
    account,
    acts,
    auditor,
    documents,
    entrance,
    erasures,
    health,
    holds,
    keys,
    kiosk,
    models,
    people,
    screens,
    storage,
    witness,
)
from appliance.console.render import NavItem, Pages
from appliance.console.sessions import Sessions
from appliance.services import Services

MENU: list[NavItem] = [
    *health.MENU,
    *keys.MENU,
    *documents.MENU,
    *models.MENU,
    *storage.MENU,
    *people.MENU,
    *auditor.MENU,
    *erasures.MENU,
    *acts.MENU,
    *holds.MENU,
    *auditor.identity.MENU,
    *witness.MENU,
    *screens.MENU,
]
ROUTES = [
    *entrance.ROUTES,
    *account.ROUTES,
    *health.ROUTES,
    *keys.ROUTES,
    *documents.ROUTES,
    *models.ROUTES,
    *storage.ROUTES,
    *people.ROUTES,
    *auditor.ROUTES,
    *erasures.ROUTES,
    *acts.ROUTES,
    *holds.ROUTES,
    *witness.ROUTES,
    *kiosk.ROUTES,
    *screens.ROUTES,
]


async def static(request: Request) -> Response:
    """A style, a script or a picture of ours. Its address names its digest: it never changes."""
    found = call_of(request).pages.static.get(request.path_params["name"])
    if found is None or request.url.path != found.path:
        raise HTTPException(404)
    return Response(
        found.data,
        headers={"content-type": found.media_type, "cache-control": "public, max-age=31536000, immutable"},
    )


def create_console(services: Services, sessions: Sessions, api: ASGIApp) -> Starlette:
    """The pages over services that run already. `api` is what a kiosk's page asks, as any caller does."""
    settings = services.settings
    pages = Pages(settings.audit.origin, appliance.__version__, MENU, is_dev=settings.profile == "dev")
    console = Starlette(
        routes=[*ROUTES, route("/static/{digest}/{name}", static, None)],
        middleware=[
            Middleware(
                Frame,
                services=services,
                sessions=sessions,
                pages=pages,
                is_secure=bool(settings.server.tls_certificate),
            )
        ],
        exception_handlers={HTTPException: _to_frame},
    )
    console.state.api = api
    console.state.words = words_of(settings.kiosk)
    return console


def new_sessions(services: Services) -> Sessions:
    """Nobody is logged in yet."""
    settings = services.settings.console
    return Sessions(
        services.audit,
        services.clock,
        services.people.active,
        idle_seconds=settings.idle_minutes * 60,
        max_seconds=settings.session_hours * 3600,
        factor_since=services.people.entering.factor_since,
    )


def _to_frame(_request: Request, error: Exception) -> NoReturn:
    """Starlette's own answers have another shape: hand its errors to the frame."""
    raise error
