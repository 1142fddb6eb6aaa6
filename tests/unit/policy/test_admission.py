"""Admission is a decision tree; each branch is a row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from appliance.core import ChatMessage, InferenceRequest, ModelSpec, Purpose, SamplingParams
from appliance.policy.admission import Admit, Load, Refuse, decide, suits
from appliance.tasks import CountTask, EmbedTask, RankTask, Task, TokenizeTask

MODEL = ModelSpec(id="m", sha256="0" * 64, size_bytes=1, path=Path("/nowhere"))
FREE = Load(stopping=False, audit_ready=True, disk_low=False, model_ready=True, max_inside=2)


def test_a_free_appliance_admits() -> None:
    """Nothing speaks against it: admitted, with the model that will answer."""
    assert decide(MODEL, FREE) == Admit(MODEL)


@pytest.mark.parametrize(
    ("model", "change", "code", "can_wait"),
    [
        (None, {}, "model_not_found", False),
        (None, {"audit_ready": False, "stopping": True}, "model_not_found", False),
        (MODEL, {"suits": False, "stopping": True}, "unsupported_model", False),
        (MODEL, {"stopping": True, "audit_ready": False}, "stopping", True),
        (MODEL, {"audit_ready": False}, "audit_unavailable", True),
        (MODEL, {"audit_ready": False, "model_ready": False}, "audit_unavailable", True),
        (MODEL, {"audit_ready": False, "disk_low": True}, "audit_unavailable", True),
        (MODEL, {"disk_low": True, "model_ready": False}, "disk_low", True),
        (MODEL, {"model_ready": False}, "model_not_ready", True),
        (MODEL, {"too_large": "it needs much", "model_ready": False}, "model_does_not_fit", False),
        (MODEL, {"disk_low": True, "too_large": "it needs much"}, "disk_low", True),
    ],
)
def test_each_branch_refuses_with_its_own_code(
    model: ModelSpec | None, change: dict[str, Any], code: str, *, can_wait: bool
) -> None:
    """The first rule that speaks against a request names the reason, and whether waiting helps."""
    decision = decide(model, dataclasses.replace(FREE, **change))

    assert isinstance(decision, Refuse)
    assert decision.code == code
    assert (decision.retry_after_seconds is not None) == can_wait


def test_what_never_fits_is_not_told_to_wait() -> None:
    """More choices than there are places at all are the caller's mistake, and the parameter is named."""
    decision = decide(MODEL, FREE, num_asked=3)

    assert isinstance(decision, Refuse)
    assert (decision.code, decision.retry_after_seconds, decision.param) == ("invalid_value", None, "n")
    assert decide(MODEL, FREE, num_asked=2) == Admit(MODEL)


@pytest.mark.parametrize(
    ("purpose", "able"),
    [
        (Purpose.CHAT, {"chat", "count", "embed", "rank", "tokenize"}),
        (Purpose.EMBEDDING, {"embed", "rank", "tokenize"}),
        (Purpose.RERANK, {"rank", "tokenize"}),
    ],
)
def test_a_question_goes_to_models_that_are_for_it(purpose: Purpose, able: set[str]) -> None:
    """What a model can never do is refused before it is loaded for that."""
    asked: dict[str, InferenceRequest | Task] = {
        "chat": InferenceRequest(
            request_id="r", model="m", messages=(ChatMessage("user", "x"),), sampling=SamplingParams()
        ),
        "count": CountTask(request_id="r", model="m", messages=()),
        "embed": EmbedTask(request_id="r", model="m", inputs=("x",)),
        "rank": RankTask(request_id="r", model="m", query="x", documents=("y",)),
        "tokenize": TokenizeTask(request_id="r", model="m", source="x"),
    }
    model = dataclasses.replace(MODEL, purpose=purpose)
    assert {name for name, request in asked.items() if suits(model, request)} == able
