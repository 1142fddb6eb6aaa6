"""`python -m tests.fakes.thinking_worker --fd N`: as `fake_worker`, with a template whose model thinks.

Its thoughts are what stands between `<think>` and `</think>` at the beginning of an answer. It can be told
to have none.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from appliance.engine.messages import LoadModel
from appliance.engine.worker.start import main

if TYPE_CHECKING:
    from tests.fakes.fake_backend import FakeBackend

TEMPLATE = (
    "{% if enable_thinking is defined and not enable_thinking %}do not think{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _thinking(load: LoadModel) -> FakeBackend:
    from tests.fakes.fake_backend import FakeBackend  # noqa: PLC0415 - inside the sandbox

    backend = FakeBackend(load)
    backend.model = dataclasses.replace(backend.model, template=TEMPLATE)
    return backend


if __name__ == "__main__":
    sys.exit(main(_thinking))
