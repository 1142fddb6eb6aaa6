"""The gateway's own test, for whoever installs: is it ready, does the model answer, is the answer on the
record?

It goes the way of every request (`inference`), opening and closing included, as a caller of its own.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from appliance.audit.log import AuditLog
from appliance.catalog import Catalog
from appliance.core import Caller, ChatMessage, Delta, InferenceRequest, Principal, Role, SamplingParams
from appliance.errors import AuditUnavailable, Unavailable
from appliance.fleet import Fleet
from appliance.inference import Inference
from appliance.terms import PRIORITIES, Limits, Terms

# It is asked for while the appliance is busy, too: nobody goes before it.
PRINCIPAL: Final = Principal(
    key_id="installer", name="installer", role=Role.KIOSK, terms=Terms(limits=Limits(priority=PRIORITIES[1]))
)
_CALLER: Final = Caller(address="", user_agent="appliance doctor --live")
_QUESTION: Final = ChatMessage(role="user", content="Say yes.")
_SAMPLING: Final = SamplingParams(temperature=0.0, seed=1, max_tokens=4)


class SelfTest:
    """Answers for a running gateway."""

    def __init__(self, *, audit: AuditLog, catalog: Catalog, fleet: Fleet, inference: Inference) -> None:
        self._audit = audit
        self._catalog = catalog
        self._fleet = fleet
        self._inference = inference

    async def run(self, *, generate: bool) -> dict[str, Any]:
        """What was found. Unavailable or AuditUnavailable says what is not as it must be."""
        spec = self._catalog.resolve("default")
        engine = self._fleet.engine_of(spec) if spec is not None else None
        if not (await self._audit.checked()).is_ready:
            raise AuditUnavailable("the audit log can not commit")
        if spec is None or engine is None or not engine.is_ready:
            raise Unavailable("the default model is not ready", code="model_not_ready")
        found: dict[str, Any] = {"ready": True, "model": spec.id, "tree_size": self._audit.tree_size}
        return found | (await self._answer() if generate else {})

    async def _answer(self) -> dict[str, Any]:
        request = InferenceRequest(
            request_id=f"req_{secrets.token_hex(16)}",
            model="default",
            messages=(_QUESTION,),
            sampling=_SAMPLING,
        )
        exchange = self._inference.begin(request, PRINCIPAL, _CALLER)
        receipt = await exchange.accepted()
        num_pieces = 0
        async for event in exchange.events():
            num_pieces += isinstance(event, Delta)
        return {"record": receipt.record, "num_pieces": num_pieces}
