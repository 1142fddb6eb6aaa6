"""Requests that are asked again: under an idempotency key a request runs once, and is recorded once."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from http import HTTPStatus

from fastapi import Request

from appliance.api import rates
from appliance.api.border import route_of, visit_of
from appliance.audit import entry
from appliance.core import InferenceRequest
from appliance.errors import ApplianceError, Busy, RequestError
from appliance.exchange import Exchange
from appliance.idempotency import Scope
from appliance.services import services_of
from appliance.statuses import status_of
from appliance.tasks import Task

HEADER = "idempotency-key"
MAX_CHARACTERS = 255


async def begin(request: Request, question: InferenceRequest | Task) -> Exchange:
    """A new exchange; or, under an idempotency key, the one that the same request began earlier.

    Raises what refuses it, after a while where its key is refused again and again. What is refused is not
    kept: asked again, it is a new request.
    """
    principal = visit_of(request.scope).known_principal
    admitting = services_of(request.app).admitting
    try:
        return await _begin(request, question)
    except Busy:
        await asyncio.sleep(admitting.pause_seconds(principal))
        raise
    finally:
        visit_of(request.scope).headers += rates.headers_of(admitting.buckets(principal))


async def _begin(request: Request, question: InferenceRequest | Task) -> Exchange:
    visit = visit_of(request.scope)
    services = services_of(request.app)
    name = _name_of(request)
    visit.answer_id = question.request_id
    if name is None:
        return services.inference.begin(question, visit.known_principal, visit.caller)
    body = await request.body()
    scope = Scope(visit.known_principal.key_id, route_of(request.scope), name)
    digest = _digest(body)
    # From here to `keep` nothing is awaited: two requests with one key can not both begin.
    now_us = services.clock.monotonic_us()
    found = services.retries.find(scope, digest, now_us=now_us)
    if found is not None:
        visit.is_replay = True
        visit.answer_id = found.request.request_id
        return found
    annotations = {**question.annotations, "idempotency_key": name}
    question = dataclasses.replace(question, annotations=annotations)
    exchange = services.inference.begin(question, visit.known_principal, visit.caller, is_kept=True)
    services.retries.keep(scope, digest, exchange, num_body_bytes=len(body), now_us=now_us)
    return exchange


async def accepted(request: Request, exchange: Exchange) -> None:
    """Wait until the worker took the question; raise what stopped it before that.

    A replay is on the record before anything of it is told, by an entry of its own.
    """
    if not visit_of(request.scope).is_replay:
        await exchange.accepted()
        return
    status = HTTPStatus.OK
    try:
        await exchange.accepted()
    except ApplianceError as error:
        status = status_of(error)
        raise
    finally:
        if exchange.receipt is not None:
            await _record(request, exchange, exchange.receipt.seq, status)


async def _record(request: Request, exchange: Exchange, target: int, status: HTTPStatus) -> None:
    visit = visit_of(request.scope)
    services = services_of(request.app)
    endpoint = exchange.request.endpoint
    await services.audit.append(
        entry.replayed(
            request_id=visit.request_id,
            target=target,
            endpoint=endpoint,
            status=status,
            principal=visit.known_principal,
            caller=visit.caller,
            annotations=exchange.request.annotations,
        )
    )
    services.metrics.request_replayed(endpoint)


def _name_of(request: Request) -> str | None:
    """The key as it was sent; quotes, which the draft asks for, are a part of it."""
    names = request.headers.getlist(HEADER)
    if not names:
        return None
    name = names[0]
    if len(names) > 1 or not 1 <= len(name) <= MAX_CHARACTERS or not (name.isascii() and name.isprintable()):
        raise RequestError(
            f"an idempotency key has 1 to {MAX_CHARACTERS} printable ASCII characters, and is sent once",
            code="invalid_idempotency_key",
            param=HEADER,
        )
    return name


def _digest(body: bytes) -> bytes:
    """Of what the body says: spaces and the order of names make no other request."""
    said = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode("ascii")).digest()
