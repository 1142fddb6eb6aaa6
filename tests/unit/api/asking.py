"""Bodies as routes read them, and what is said of their mistakes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.api.body import read
from appliance.api.completions_schemas import CompletionRequest
from appliance.api.schemas import ChatCompletionRequest
from appliance.core import InferenceRequest
from appliance.errors import RequestError

USER: dict[str, Any] = {"role": "user", "content": "hi"}


def chat(**changes: Any) -> InferenceRequest:
    """A question to `/v1/chat/completions`, in core's words."""
    body = {"model": "default", "messages": [USER], **changes}
    return read(json.dumps(body).encode(), ChatCompletionRequest).to_core("req_1", None)


def completion(**changes: Any) -> InferenceRequest:
    """A question to `/v1/completions`, in core's words."""
    body = {"model": "default", "prompt": "Once", **changes}
    return read(json.dumps(body).encode(), CompletionRequest).to_core("req_1", None)


def chat_mistake(**changes: Any) -> tuple[str, str | None]:
    """Code and parameter of what refuses a chat."""
    with pytest.raises(RequestError) as caught:
        chat(**changes)
    return caught.value.code, caught.value.param


def completion_mistake(**changes: Any) -> tuple[str, str | None]:
    """Code and parameter of what refuses a completion."""
    with pytest.raises(RequestError) as caught:
        completion(**changes)
    return caught.value.code, caught.value.param
