"""May a request be asked here now, whoever asks? A pure decision over what the gateway knows.

Numbered decision tree:
1. an unknown model                         → model_not_found
   one that is for other questions          → unsupported_model (before anything is loaded for it)
2. an appliance that is being stopped       → stopping (what runs is finished, nothing new begins)
3. a log that can not commit                → audit_unavailable (law 4)
4. a disk below its low-water mark          → disk_low (before it is full: running ones are to end)
5. a model that is larger than there is room → model_does_not_fit (waiting would not help)
6. a model whose worker failed              → model_not_ready (one that is to be loaded is waited for)
7. more choices than ever fit at once       → invalid_value (waiting would not help)
8. otherwise                                → Admit: `limits` decides for its key, and `queue` when

Its key's own limits come next (`limits`), then the line before the model (`queue`): so a request that
could not be answered at all uses nothing up, and takes nobody's place.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.core import InferenceRequest, ModelSpec, Purpose
from appliance.tasks import CountTask, EmbedTask, Task


@dataclass(frozen=True, slots=True)
class Admit:
    """The request may be asked of this model."""

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

    stopping: bool
    audit_ready: bool
    disk_low: bool
    model_ready: bool  # it answers, or will once it is loaded
    max_inside: int  # answers, running and waiting: a question with `n` choices counts so often
    stopped_for_seconds: int = 10  # until the next gateway may answer
    model_again_seconds: int = 2  # until a model that failed may answer
    suits: bool = True  # the model's purpose is this kind of question
    too_large: str = ""  # why the model can never be loaded here, with the numbers


def suits(model: ModelSpec, request: InferenceRequest | Task) -> bool:
    """Whether a model of this purpose can do that at all. What else it can not do, its worker says."""
    match request:
        case InferenceRequest() | CountTask():
            return model.purpose is Purpose.CHAT
        case EmbedTask():
            return model.purpose in {Purpose.CHAT, Purpose.EMBEDDING}
        case _:
            return True


def decide(model: ModelSpec | None, load: Load, num_asked: int = 1) -> Admit | Refuse:
    """Walk the tree above. `num_asked`: how many answers the request wants."""
    if model is None:  # 1
        return Refuse(
            "model_not_found",
            "this model is not installed; GET /v1/models lists them",
            None,
            "model",
        )
    if not load.suits:
        return Refuse(
            "unsupported_model", f"this model is for something else ({model.purpose})", None, "model"
        )
    if load.stopping:  # 2
        return Refuse("stopping", "the appliance is being stopped", load.stopped_for_seconds)
    if not load.audit_ready:  # 3
        return Refuse("audit_unavailable", "the audit log can not commit", 5)
    if load.disk_low:  # 4
        return Refuse("disk_low", "the disk has too little room for the record of new requests", 30)
    if load.too_large:  # 5
        return Refuse("model_does_not_fit", f"this model does not fit: {load.too_large}", None, "model")
    if not load.model_ready:  # 6
        return Refuse("model_not_ready", "the model is restarting", load.model_again_seconds)
    if num_asked > load.max_inside:  # 7
        return Refuse(
            "invalid_value",
            f"one request has at most {load.max_inside} choices here, of all its prompts together",
            None,
            "n",
        )
    return Admit(model)  # 8
