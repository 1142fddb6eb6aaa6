"""A core over the fake backend, and everything that it said."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.engine.messages import (
    AdapterFile,
    Delta,
    Failed,
    Finished,
    Generate,
    LoadModel,
    Rejected,
    Setup,
    ToGateway,
)
from appliance.engine.question import Sampling, Turn
from appliance.engine.worker.core import EngineCore
from appliance.engine.worker.prepare import Preparer
from appliance.engine.worker.prompt import PromptBuilder
from appliance.engine.worker.sequence import Sequence
from appliance.engine.worker.together import Limits
from tests.clocks import ManualClock
from tests.fakes.fake_backend import FakeBackend

LOAD = LoadModel("fake", "", 4096, 4, 64, 1, 1, 0, 8, 150_000, 512)


class Bench:
    """A core, its backend, and everything that it said."""

    def __init__(
        self,
        *,
        n_cells: int | None = None,
        cached: int = LOAD.prefix_cache_cells,
        spilled: int = 0,
        declared: tuple[str, ...] = (),
        speculation: bool = True,
        apart: FakeBackend | None = None,
        adapters: tuple[str, ...] = (),
    ) -> None:
        load = msgspec.structs.replace(LOAD, adapters=tuple(AdapterFile(each, "", 1.0) for each in adapters))
        self.backend = FakeBackend(load, n_cells=n_cells)
        self.backend.apart = apart
        self.builder = PromptBuilder(self.backend)
        self.said: list[ToGateway] = []
        self.cached = cached
        self.core = EngineCore(
            self.backend,
            Limits(LOAD.max_waiting, LOAD.step_target_us, cached, spilled, speculation),
            clock=ManualClock(),
            emit=self.said.extend,
            declared=[self.builder.declared_prefix(text) for text in declared],
        )
        self.preparer = Preparer(self.builder, self.backend)

    def ask(
        self,
        request_id: str,
        text: str,
        *,
        stop: tuple[str, ...] = (),
        max_tokens: int | None = None,
        tenant: str = "kiosk",
        system: str = "",
        schema: str = "",
        setup: Setup | None = None,
        seed: int | None = None,
        logit_bias: tuple[tuple[int, float], ...] = (),
        top_logprobs: int | None = None,
        prompt: str | tuple[int, ...] | None = None,
        adapter: str = "",
    ) -> Any:
        sampling = Sampling(
            0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, seed, max_tokens, stop, logit_bias, top_logprobs
        )
        turns = (*((Turn("system", system),) if system else ()), Turn("user", text))
        question = Generate(
            request_id,
            turns if prompt is None else (),
            sampling,
            tenant,
            schema,
            setup,
            prompt,
            adapter=adapter,
        )
        prepared = self.preparer.prepare(question)
        if isinstance(prepared, Sequence):
            self.core.add(prepared)
        return prepared

    def run(self, steps: int = 10_000) -> None:
        for _ in range(steps):
            if not self.core.has_work:
                return
            self.core.step()

    def text(self, request_id: str) -> str:
        return "".join(m.text for m in self.said if isinstance(m, Delta) and m.request_id == request_id)

    def ends(self, request_id: str) -> list[ToGateway]:
        return [
            m for m in self.said if isinstance(m, Finished | Failed | Rejected) and m.request_id == request_id
        ]

    def assert_clean(self) -> None:
        assert all(seq_id >= LOAD.n_seq_max for seq_id in self.backend.cells)
        assert self.backend.num_cells <= self.cached
        assert self.backend.num_cells == self.core._shared._scheduler.num_cells_used
        assert self.backend.num_samplers == 0
        assert not self.core.has_work


def cached_tokens(bench: Bench, request_id: str) -> int:
    (end,) = bench.ends(request_id)
    assert isinstance(end, Finished)
    return end.cached_tokens
