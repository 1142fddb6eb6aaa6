"""A model that stays loaded for as long as somebody holds it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from appliance import standing
from appliance.claims import Claim
from appliance.core import ModelSpec
from appliance.engine.supervisor import Engine
from appliance.errors import InternalError, Unavailable
from appliance.standing import Standing


class Claimed(Protocol):
    """What a lease asks of a fleet: each in its own words there."""

    changed: asyncio.Event

    def want(self, spec: ModelSpec) -> Claim: ...

    def serve(self, claim: Claim) -> None: ...

    def drop(self, claim: Claim) -> None: ...

    def is_open(self, model_id: str) -> bool: ...

    def standing(self, spec: ModelSpec) -> Standing: ...

    def engine_of(self, spec: ModelSpec) -> Engine | None: ...


@contextlib.asynccontextmanager
async def leased(fleet: Claimed, spec: ModelSpec, seconds: float) -> AsyncIterator[Engine]:
    """The model's engine, ready.

    Unavailable where it is not ready within `seconds`, or can not be loaded; RequestError where it does not
    fit.
    """
    claim = fleet.want(spec)
    try:
        try:
            async with asyncio.timeout(seconds):
                while not fleet.is_open(spec.id):
                    found = fleet.standing(spec)
                    if not found.can_be_asked:
                        raise standing.refusal(spec, found)
                    await fleet.changed.wait()
        except TimeoutError as error:
            says = f"{spec.id} was not ready in time"
            raise Unavailable(says, code="model_not_ready", retry_after_seconds=2) from error
        fleet.serve(claim)
        engine = fleet.engine_of(spec)
        if engine is None:
            raise InternalError("a model is open and has no engine")
        yield engine
    finally:
        fleet.drop(claim)
