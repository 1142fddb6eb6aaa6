"""`litellm` over the responses API."""

from __future__ import annotations

from typing import Any

import litellm

from tests.contract.clients.checks import MODEL, check
from tests.contract.clients.litellm_chat import WHERE


@check
def whole() -> None:
    answer: Any = litellm.responses(model=f"openai/{MODEL}", input="echo: good morning", **WHERE)
    assert answer.output[0].content[0].text == "good morning"


@check
def streamed() -> None:
    events: Any = litellm.responses(model=f"openai/{MODEL}", input="echo: abc", stream=True, **WHERE)
    pieces = [each.delta for each in events if each.type == "response.output_text.delta"]
    assert "".join(pieces) == "abc"
