"""What an activation asks of a running gateway, where that loads one model at its start."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from appliance.core import ModelSpec
from appliance.engine.supervisor import Engine
from appliance.errors import Unavailable


class OneModel:
    """Lets aliases stand for the model that is loaded, and for no other one."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    async def has_room(self, spec: ModelSpec, *, beside: ModelSpec | None) -> bool:
        """It is loaded, or can not be."""
        del spec, beside
        return True

    @contextlib.asynccontextmanager
    async def lease(self, spec: ModelSpec, *, seconds: float) -> AsyncIterator[Engine]:
        """The model that is loaded, once it is ready. Unavailable for another one."""
        engine = self._engines.get(spec.id)
        if engine is None:
            raise Unavailable(
                "this gateway loads one model, at its start",
                code="gateway_running",
                hint="stop the service, move the alias, and start it again",
            )
        if not await engine.wait_ready(seconds):
            raise Unavailable("the model is loading or restarting", code="model_not_ready")
        yield engine

    def review(self) -> None:
        """Nothing else is loaded or unloaded."""
