"""What a key may ask, by its terms alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from appliance.core import Adapter, ModelSpec
from appliance.policy.permits import allows_model, permitted
from appliance.terms import Capture, Endpoint, Terms

MODEL = ModelSpec(id="small", sha256="0" * 64, size_bytes=1, path=Path("small"), aliases=("default", "fast"))
METADATA = Terms(capture=Capture.METADATA, capture_basis="agreement 7")


@pytest.mark.parametrize(
    ("terms", "endpoint", "reproducible", "expected"),
    [
        (Terms(), Endpoint.CHAT, True, None),
        (Terms(models=("small",)), Endpoint.CHAT, False, None),
        (Terms(models=("other", "fast")), Endpoint.CHAT, False, None),
        (Terms(models=("other",)), Endpoint.CHAT, False, ("model_not_allowed", "model")),
        (Terms(models=("smal", "Default", "")), Endpoint.CHAT, False, ("model_not_allowed", "model")),
        (Terms(endpoints=(Endpoint.CHAT,)), Endpoint.CHAT, False, None),
        (Terms(endpoints=(Endpoint.CHAT,)), Endpoint.RERANK, False, ("endpoint_not_allowed", None)),
        (METADATA, Endpoint.CHAT, False, None),
        (METADATA, Endpoint.CHAT, True, ("not_reproducible", "reproducible")),
    ],
)
def test_what_the_terms_do_not_name_is_refused(
    terms: Terms, endpoint: Endpoint, *, reproducible: bool, expected: tuple[str, str | None] | None
) -> None:
    """Where a term names something, everything else of its kind is refused, with its reason."""
    decision = permitted(terms, MODEL, endpoint, reproducible=reproducible)

    assert (decision and (decision.code, decision.param)) == expected


def test_a_model_that_is_not_there_is_not_refused_for_the_key() -> None:
    """What is not installed is for others to refuse; a kind of question is refused all the same."""
    assert permitted(Terms(models=("small",)), None, Endpoint.CHAT) is None
    assert permitted(Terms(endpoints=(Endpoint.CHAT,)), None, Endpoint.RERANK) is not None


def test_an_adapter_is_another_right() -> None:
    """Who may use a model may not use it with a department's adapter, nor the other way round."""
    laid = Adapter("letters", "1" * 64, Path("letters"), 1)
    tuned = dataclasses.replace(MODEL, aliases=("hr",), adapter=laid)

    assert allows_model(Terms(models=("hr",)), tuned)
    assert not allows_model(Terms(models=("small", "default")), tuned)
    assert not allows_model(Terms(models=("hr",)), MODEL)
    assert allows_model(Terms(), tuned)
