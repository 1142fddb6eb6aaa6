"""`create_app(services)`: the API for callers. One app object per audience."""

from __future__ import annotations

from http import HTTPStatus
from typing import NoReturn

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException

import appliance
from appliance.api import (
    audit,
    chat,
    completions,
    embeddings,
    exports,
    health,
    input_tokens,
    messages,
    models,
    openapi,
    proofs,
    rerank,
    responses,
    tokens,
)
from appliance.api.border import Border
from appliance.services import Services


def create_app(services: Services) -> FastAPI:
    """The ASGI application over services that run already; it owns none of their lives."""
    app = create_routes()
    app.state.services = services
    app.add_exception_handler(HTTPException, _to_border)
    app.add_middleware(Border, services=services)
    return app


def create_routes() -> FastAPI:
    """Every route, and nothing behind them: what the document of the API is made from."""
    app = FastAPI(
        title="appliance",
        version=appliance.__version__,
        description="An OpenAI-compatible API that never leaves the building.",
        docs_url=None,  # the stock pages load their scripts from the Internet
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        # It would trace, count and log requests for whoever sets a provider or an exporter's variables.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.include_router(chat.router)
    app.include_router(completions.router)
    app.include_router(messages.router)
    app.include_router(embeddings.router)
    app.include_router(rerank.router)
    app.include_router(tokens.router)
    app.include_router(input_tokens.router)  # before `/v1/responses/{response_id}`
    app.include_router(responses.router)
    app.include_router(models.router)
    app.include_router(proofs.router)
    app.include_router(audit.router)
    app.include_router(exports.router)
    app.include_router(health.router)
    app.include_router(openapi.router)
    return app


def _to_border(request: Request, error: Exception) -> NoReturn:
    """Starlette's own answers have another shape: hand its errors to the border.

    Of a path that takes several methods Starlette names those of its first route only.
    """
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        path = request.scope["route"].path
        same = [each for each in openapi.routes_of(request.app) if each.path == path]
        methods = {method for each in same for method in each.methods or ()}
        error.headers = {"allow": ", ".join(sorted(methods))}
    raise error
