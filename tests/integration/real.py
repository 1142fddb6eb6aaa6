"""A core over the real starter model, and what it said."""

from __future__ import annotations

from typing import Any

from appliance.engine.messages import Delta, Generate, ToGateway
from appliance.engine.question import Sampling, Turn
from appliance.engine.worker.backend import BatchItem, DecodeStatus
from appliance.engine.worker.core import EngineCore
from appliance.engine.worker.llama import LlamaBackend
from appliance.engine.worker.prepare import Preparer
from appliance.engine.worker.prompt import PromptBuilder
from appliance.engine.worker.sequence import Sequence
from appliance.engine.worker.together import Limits
from tests.clocks import ManualClock

GREEDY = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, 24, ())
QUESTIONS = [
    "What is a tax return?",
    "Name three colours.",
    "Where do I hand in form 12?",
    "Is the office open on Friday?",
]


class Bench:
    """A core over the shared backend, and what it said."""

    def __init__(
        self,
        backend: LlamaBackend,
        *,
        prefix_cache_cells: int = 0,
        spilled_cells: int = 0,
        speculation: bool = True,
    ) -> None:
        self.backend = backend
        self.builder = PromptBuilder(backend)
        self.said: list[ToGateway] = []
        self.core = EngineCore(
            backend,
            Limits(32, 150_000, prefix_cache_cells, spilled_cells, speculation),
            clock=ManualClock(),
            emit=self.said.extend,
        )
        self.preparer = Preparer(self.builder, backend)

    def ask(
        self, request_id: str, text: str, sampling: Sampling = GREEDY, system: str = "", schema: str = ""
    ) -> Any:
        turns = (*((Turn("system", system),) if system else ()), Turn("user", text))
        prepared = self.preparer.prepare(Generate(request_id, turns, sampling, schema=schema))
        if isinstance(prepared, Sequence):
            self.core.add(prepared)
        return prepared

    def answers(self) -> dict[str, str]:
        while self.core.has_work:
            self.core.step()
        texts: dict[str, str] = {}
        for message in self.said:
            if isinstance(message, Delta):
                texts[message.request_id] = texts.get(message.request_id, "") + message.text
        return texts


def alone(backend: LlamaBackend, text: str, sampling: Sampling = GREEDY) -> str:
    bench = Bench(backend)
    bench.ask("only", text, sampling)
    return bench.answers()["only"]


def vary(**changes: Any) -> Sampling:
    fields = {name: getattr(GREEDY, name) for name in GREEDY.__struct_fields__}
    return Sampling(**(fields | changes))


def last_logits(backend: LlamaBackend, prompts: list[list[int]]) -> list[Any]:
    """The logits behind each prompt, all prompts computed in one batch."""
    batch = [
        BatchItem(token, position, seq_id, wants_logits=position == len(prompt) - 1)
        for seq_id, prompt in enumerate(prompts)
        for position, token in enumerate(prompt)
    ]
    assert backend.decode(batch) is DecodeStatus.OK
    rows = [row for row, item in enumerate(batch) if item.wants_logits]
    found = [backend.logits(row).copy() for row in rows]
    for seq_id in range(len(prompts)):
        backend.remove(seq_id)
    return found
