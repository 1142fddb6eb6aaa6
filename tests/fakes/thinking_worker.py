"""`python -m tests.fakes.thinking_worker --fd N`: as `fake_worker`, with a template whose model thinks.

Its thoughts are what stands between `<think>` and `</think>` at the beginning of an answer. It can be told
to have none.
"""

from __future__ import annotations

import dataclasses
import sys

from appliance.engine.messages import LoadModel
from appliance.engine.worker.program import main
from tests.fakes.fake_backend import FakeBackend

TEMPLATE = (
    "{% if enable_thinking is defined and not enable_thinking %}do not think{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class ThinkingBackend(FakeBackend):
    """The fake one, but for its template."""

    def __init__(self, load: LoadModel, *, n_cells: int | None = None) -> None:
        super().__init__(load, n_cells=n_cells)
        self.model = dataclasses.replace(self.model, template=TEMPLATE)


if __name__ == "__main__":
    sys.exit(main(ThinkingBackend))
