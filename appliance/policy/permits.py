"""May this key ask this of this model? A pure decision over its terms; how much it may have is another.

A term that names an alias means what is behind it at this moment, whatever its name in the request: two names
of one model are never two rights. An adapter makes another model of it: whoever may use the one may not use
the other, and a model's id means it without any.
"""

from __future__ import annotations

from appliance.core import InferenceRequest, ModelSpec
from appliance.errors import Refused
from appliance.policy.admission import Refuse
from appliance.tasks import Task, endpoint_of
from appliance.terms import Capture, Endpoint, Terms


def permitted(
    terms: Terms, model: ModelSpec | None, endpoint: Endpoint, *, reproducible: bool = False
) -> Refuse | None:
    """Why not; None where nothing speaks against it. An unknown model is for others to refuse."""
    if not terms.allows_endpoint(endpoint):
        return Refuse("endpoint_not_allowed", "this key may not ask this kind of question")
    if model is not None and not allows_model(terms, model):
        return Refuse(
            "model_not_allowed",
            "this key may not use this model; GET /v1/models lists those that it may",
            param="model",
        )
    if reproducible and terms.capture is Capture.METADATA:
        return Refuse(
            "not_reproducible",
            "an answer can be computed again only from its record, and of this key no words are kept",
            param="reproducible",
        )
    return None


def require(terms: Terms, model: ModelSpec | None, request: InferenceRequest | Task) -> None:
    """Refused where the terms speak against it."""
    reproducible = isinstance(request, InferenceRequest) and request.reproducible
    barred = permitted(terms, model, endpoint_of(request), reproducible=reproducible)
    if barred is not None:
        raise Refused(barred.reason, code=barred.code, param=barred.param)


def allows_model(terms: Terms, model: ModelSpec) -> bool:
    """Whether one of the model's names is among those of the terms; as it was resolved, with its adapter."""
    names = {*model.aliases} if model.adapter is not None else {model.id, *model.aliases}
    return not terms.models or not names.isdisjoint(terms.models)
