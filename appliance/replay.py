"""An answer from the record, computed again: is it the same, and where does it first differ?

Needs the content of both records, so an auditor's key; the model's file with the digest that the
record names; and, for the same bits, the same library on the same kind of processor. It runs a worker
of its own, in the setup that the record holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from appliance.audit.contents import answer_of, are_words_kept
from appliance.audit.kinds import Kind
from appliance.audit.query import Opened
from appliance.audit.questions import question_of
from appliance.catalog import Catalog
from appliance.clock import SystemClock
from appliance.core import (
    Adapter,
    Delta,
    Finished,
    InferenceRequest,
    ModelSpec,
    Setup,
    Trace,
)
from appliance.engine.messages import Tuning
from appliance.engine.process import DEFAULT_COMMAND
from appliance.engine.supervisor import Engine
from appliance.engine.tunings import Fixed
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import RequestError, SetupError, VerificationError


@dataclass(frozen=True, slots=True)
class Recorded:
    """One exchange, as the record holds it."""

    seq: int  # of the opening
    model_sha256: str
    request: InferenceRequest
    text: str = field(repr=False)
    trace: Trace | None = field(repr=False)
    outcome: str = ""
    adapter_sha256: str = ""  # empty: none lay over the model
    adapter_thousandths: int = 1000  # how strongly


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out this time, against the record."""

    identical: bool  # every token, every logit, and the text
    num_tokens: int
    first_token: int | None = None  # the first token that differs, from 0
    first_logits: int | None = None  # the first token whose logits differ, though it may be the same
    recorded: str = field(default="", repr=False)  # both texts from where they differ
    replayed: str = field(default="", repr=False)
    differences: tuple[str, ...] = ()  # of library and device: why it may differ


def recorded_of(opened: Sequence[Opened]) -> Recorded:
    """The exchange in these records. RequestError where there is no whole one."""
    if not are_words_kept([each.record for each in opened]):
        raise RequestError(
            "of this key no words are kept, so there is nothing to compute again",
            code="not_replayable",
            hint="appliance key show NAME says on which ground",
        )
    opening = next((each for each in opened if each.record.kind is Kind.REQUEST_OPENED), None)
    closing = next((each for each in opened if each.record.kind is Kind.REQUEST_CLOSED), None)
    # Only what is answered in words has sampling: tasks have not.
    if opening is None or closing is None or "sampling" not in (opening.content or {}):
        raise RequestError(
            "there is no question with an opening and a closing behind this entry",
            code="not_replayable",
            hint="appliance audit search --kind request:closed lists those that can be replayed",
        )
    closed = closing.content or {}
    trace = None
    if "tokens" in closed:
        trace = Trace(tokens=tuple(closed["tokens"]), digests=tuple(str(closed["logits"]).split()))
    return Recorded(
        seq=opening.record.seq,
        model_sha256=str(opening.record.public["model_sha256"]),
        request=question_of(
            opening.content or {},
            request_id=f"replay_of_{opening.record.seq}",
            model=str(opening.record.public["model"]),
        ),
        text=answer_of(opened).get(0, ""),
        trace=trace,
        outcome=str(closing.record.public["outcome"]),
        adapter_sha256=str(opening.record.public.get("adapter_sha256", "")),
        adapter_thousandths=int(opening.record.public.get("adapter_thousandths", 1000)),
    )


async def replay(
    recorded: Recorded,
    catalog: Catalog,
    settings: EngineSettings,
    *,
    command: Sequence[str] = DEFAULT_COMMAND,
) -> Comparison:
    """Compute the answer again. SetupError where the model is not here, or can not be loaded."""
    spec = _found(catalog, recorded.model_sha256)
    if recorded.adapter_sha256:
        laid = _found(catalog, recorded.adapter_sha256)
        scale = recorded.adapter_thousandths / 1000
        adapter = Adapter(laid.id, laid.sha256, laid.path, laid.size_bytes, scale)
        spec = dataclasses.replace(spec, adapter=adapter)
    catalog.verify(spec)
    setup = recorded.request.setup
    if setup is None:
        raise RequestError(
            "this request was not made in reproducible mode",
            code="not_replayable",
            hint='"reproducible": true in a request makes its answer one that can be replayed',
        )
    engine = Engine(
        spec,
        _only_for(setup, settings),
        clock=SystemClock(),
        on_event=lambda _event: None,
        command=command,
        tunings=Fixed(Tuning(setup.flash_attn, setup.n_threads, setup.n_threads)),
    )
    await engine.start()
    try:
        if not await engine.wait_ready(settings.load_timeout_seconds):
            raise SetupError(f"{spec.id} does not load: {engine.status.last_error}", code="load_failed")
        text, finished = await _answer(engine, recorded.request, spec)
        now = engine.setup
    finally:
        await engine.stop()
    return compare(recorded, text, finished, _differences(setup, now))


def _found(catalog: Catalog, sha256: str) -> ModelSpec:
    found = next((each for each in catalog.list() if each.sha256 == sha256), None)
    if found is None:
        raise SetupError(
            f"the file with digest {sha256[:16]}… is not in the catalogue", code="model_not_found"
        )
    return found


def compare(
    recorded: Recorded, text: str, finished: Finished, differences: tuple[str, ...] = ()
) -> Comparison:
    """Token by token, then logits by logits. Pure."""
    then, now = recorded.trace, finished.trace
    if then is None or now is None:
        raise VerificationError("the record holds no trace of this answer")
    # An answer whose caller left was cut short: what there is of it must be the beginning.
    size = len(then.tokens) if recorded.outcome == "client_gone" else None
    first_token = _first_difference(then.tokens, now.tokens[:size])
    first_logits = _first_difference(then.digests, now.digests[: len(then.digests) if size else None])
    at = _first_difference(recorded.text, text[: len(recorded.text)] if size is not None else text)
    return Comparison(
        identical=first_token is None and first_logits is None and at is None,
        num_tokens=len(then.tokens),
        first_token=first_token,
        first_logits=first_logits,
        recorded=recorded.text[at : at + 80] if at is not None else "",
        replayed=text[at : at + 80] if at is not None else "",
        differences=differences,
    )


def _first_difference(one: Sequence[Any], two: Sequence[Any]) -> int | None:
    for at, (a, b) in enumerate(zip(one, two, strict=False)):
        if a != b:
            return at
    return None if len(one) == len(two) else min(len(one), len(two))


async def _answer(engine: Engine, request: InferenceRequest, spec: ModelSpec) -> tuple[str, Finished]:
    pieces: list[str] = []
    finished: Finished | None = None
    asked = dataclasses.replace(request, model=spec.id)
    async for item in engine.generate(asked, adapter=spec.adapter):
        if isinstance(item, Delta):
            pieces.append(item.text)
        elif isinstance(item, Finished):
            finished = item
    if finished is None:
        raise VerificationError("the worker gave no end")
    return "".join(pieces), finished


def _only_for(setup: Setup, settings: EngineSettings) -> EngineSettings:
    """No sequence runs in the shared context; its cells bound what a request may take."""
    return msgspec.structs.replace(
        settings, n_ctx=setup.n_ctx, n_seq_max=1, n_batch=64, prefix_cache_cells=0, shared_prefixes=()
    )


def _differences(then: Setup, now: Setup | None) -> tuple[str, ...]:
    """What is another one today, of what rounding depends on."""
    if now is None:
        return ()
    return tuple(
        f"{name}: {getattr(then, name)} then, {getattr(now, name)} now"
        for name in ("library", "backend", "template_sha256")
        if getattr(then, name) != getattr(now, name)
    )
