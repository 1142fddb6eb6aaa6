"""A fleet whose models are all loaded, for tests of what stands before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from appliance.claims import Claim
from appliance.core import ModelSpec
from appliance.fleet import Fleet
from appliance.services import Services
from appliance.standing import Standing


class _Settled:
    def __init__(self, engines: Mapping[str, Any]) -> None:
        self.engines = engines

    def listen(self, listener: object) -> None:
        del listener

    def is_open(self, model_id: str) -> bool:
        return model_id in self.engines

    def is_known(self, spec: ModelSpec) -> bool:
        return spec.id in self.engines

    def standing(self, spec: ModelSpec) -> Standing:
        del spec
        return Standing("ready")

    def engine_of(self, spec: ModelSpec) -> Any:
        return self.engines.get(spec.id)

    def want(self, spec: ModelSpec) -> Claim:
        return Claim(spec, 0)

    def serve(self, claim: Claim) -> None:
        claim.is_served = True

    def drop(self, claim: Claim) -> None:
        del claim


async def until_ready(services: Services, name: str = "default") -> None:
    """Until this model answers."""
    spec = services.catalog.resolve(name)
    assert spec is not None
    async with services.fleet.lease(spec, seconds=30):
        pass


def settled(engines: Mapping[str, Any]) -> Fleet:
    """Every engine of these is ready, and stays."""
    return cast("Fleet", _Settled(engines))
