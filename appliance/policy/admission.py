"""May this request run now? A pure decision over what the gateway knows; it changes nothing.

Numbered decision tree:
1. an unknown model                         → model_not_found
2. a log that can not commit                → audit_unavailable (law 4)
3. a disk below its low-water mark          → disk_low (before it is full: running ones are to end)
4. a model whose worker is not ready        → model_not_ready
5. more choices than ever fit at once       → invalid_value (waiting would not help)
6. more choices than fit beside the others  → overloaded
7. otherwise                                → Admit
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core import ModelSpec


@dataclass(frozen=True, slots=True)
class Admit:
    """The request may run on this model."""

    model: ModelSpec


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request may not run, and why; `retry_after_seconds` None means: not by waiting."""

    code: str
    reason: str
    retry_after_seconds: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What the gateway knows at the moment of the decision."""

    audit_ready: bool
    disk_low: bool
    model_ready: bool
    num_in_flight: int  # answers, running and waiting: a question with `n` choices counts so often
    max_in_flight: int


def decide(model: ModelSpec | None, load: Load, num_asked: int = 1) -> Admit | Refuse:
    """Walk the tree above. `num_asked`: how many answers the request wants."""
    if model is None:  # 1
        return Refuse(
            "model_not_found",
            "this model is not installed; GET /v1/models lists them",
            None,
            "model",
        )
    if not load.audit_ready:  # 2
        return Refuse("audit_unavailable", "the audit log can not commit", 5)
    if load.disk_low:  # 3
        return Refuse("disk_low", "the disk has too little room for the record of new requests", 30)
    if not load.model_ready:  # 4
        return Refuse("model_not_ready", "the model is loading or restarting", 2)
    if num_asked > load.max_in_flight:  # 5
        return Refuse(
            "invalid_value",
            f"one request has at most {load.max_in_flight} choices here, of all its prompts together",
            None,
            "n",
        )
    if load.num_in_flight + num_asked > load.max_in_flight:  # 6
        return Refuse("overloaded", "too many requests are waiting", 2)
    return Admit(model)  # 7
