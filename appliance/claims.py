"""Questions' holds on models: who waits for which, and who is being answered by it."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core import Adapter, ModelSpec


@dataclass(eq=False, slots=True)
class Claim:
    """One question's hold on a model. Owner of every field: `Claims`."""

    spec: ModelSpec
    since_us: int
    is_served: bool = False


class Claims:
    """By model, in the order of their coming. Owner: the fleet, on the event loop's thread."""

    def __init__(self) -> None:
        self._claims: dict[str, dict[Claim, None]] = {}

    def add(self, claim: Claim) -> None:
        """One more waits."""
        self._claims.setdefault(claim.spec.id, {})[claim] = None

    def remove(self, claim: Claim) -> bool:
        """It waits or answers no longer; False where that was so already."""
        claims = self._claims.get(claim.spec.id, {})
        if claim not in claims:
            return False
        del claims[claim]
        if not claims:
            del self._claims[claim.spec.id]
        return True

    def specs(self) -> list[ModelSpec]:
        """The models that somebody waits for, or is answered by."""
        return [next(iter(claims)).spec for claims in self._claims.values()]

    def adapters(self, model_id: str) -> list[Adapter]:
        """That they ask for, besides the model itself."""
        found = (each.spec.adapter for each in self._claims.get(model_id, ()))
        return list(dict.fromkeys(each for each in found if each is not None))

    def since_us(self, model_id: str) -> int | None:
        """When the first came of those who are there; None where nobody is."""
        return min((each.since_us for each in self._claims.get(model_id, ())), default=None)

    def num_leases(self, model_id: str) -> int:
        """Questions that the model answers."""
        return sum(each.is_served for each in self._claims.get(model_id, ()))

    def num_waiting(self, model_id: str) -> int:
        """Questions that wait for it."""
        return sum(not each.is_served for each in self._claims.get(model_id, ()))
