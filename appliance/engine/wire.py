"""Between the gateway's words (`core`, `config`) and the worker's (`messages`). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Literal

from appliance.core import (
    Adapter,
    ChatMessage,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ModelSpec,
    Purpose,
    Setup,
    Started,
    Timings,
    TokenLogprob,
    Tooling,
    Trace,
    Usage,
)
from appliance.engine import messages, question
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import RequestError, Unavailable
from appliance.metrics import WorkerFigures

_PURPOSES: Mapping[Purpose, Literal["chat", "embedding", "rerank"]] = {
    Purpose.CHAT: "chat",
    Purpose.EMBEDDING: "embedding",
    Purpose.RERANK: "rerank",
}
SEEDS = 0xFFFF_FFFF  # the library reads 2**32 - 1 as "choose one": never hand that value down


def load_message(
    spec: ModelSpec,
    settings: EngineSettings,
    tuning: messages.Tuning | None,
    *,
    thorough: bool,
    adapters: Iterable[Adapter] = (),
) -> messages.LoadModel:
    """What a worker is told first. Without a tuning it measures one. `adapters` are what questions may
    name besides the spec's own.
    """
    laid = {adapter_id(each): each for each in (*adapters, *([spec.adapter] if spec.adapter else []))}
    return messages.LoadModel(
        model_id=spec.id,
        path=str(spec.path),
        n_ctx=settings.n_ctx,
        n_seq_max=settings.n_seq_max,
        n_batch=settings.n_batch,
        n_threads=settings.n_threads,
        n_threads_batch=settings.n_threads_batch,
        n_gpu_layers=settings.n_gpu_layers,
        # The gateway admits. Here they arrive together, before the first of them runs and leaves the queue.
        max_waiting=settings.max_waiting + settings.n_seq_max,
        step_target_us=settings.step_target_ms * 1000,
        prefix_cache_cells=settings.prefix_cache_cells,
        spill_bytes=settings.spill_mib * 1024 * 1024,
        speculation=settings.speculation,
        shared_prefixes=tuple(each.system for each in settings.shared_prefixes),
        embedding_n_ctx=settings.embedding_n_ctx,
        embedding_n_batch=settings.embedding_n_batch,
        tuning=_with_given_threads(tuning, settings),
        thorough=thorough,
        sandbox=settings.sandbox,
        device=settings.device,
        cpu_variant=settings.cpu_variant,
        purpose=_PURPOSES[spec.purpose],
        parts=tuple(str(each.path) for each in spec.parts),
        adapters=tuple(
            messages.AdapterFile(name, str(each.path), each.scale) for name, each in sorted(laid.items())
        ),
    )


def adapter_id(adapter: Adapter | None) -> str:
    """What a worker calls a LoRA file at this strength; empty for none. Other bytes have another name."""
    return f"{adapter.id}@{adapter.sha256[:16]}*{adapter.scale:g}" if adapter is not None else ""


def figures_of(stats: messages.Stats, ready: messages.Ready) -> WorkerFigures:
    """A worker's picture of itself, for the metrics."""
    return WorkerFigures(
        running=stats.running,
        waiting=stats.waiting,
        cells=ready.n_cells,
        cells_used=stats.cells_used,
        cells_cached=stats.cells_cached,
        cells_spilled=stats.cells_spilled,
        step_us=stats.step_us,
        step_bounds_us=messages.STEP_BUCKETS_US,
        step_buckets=stats.step_buckets,
        tokens={
            "prompt": stats.prompt_tokens,
            "cached": stats.cached_tokens,
            "restored": stats.restored_tokens,
            "completion": stats.completion_tokens,
            "drafted": stats.drafted_tokens,
            "accepted": stats.accepted_tokens,
        },
    )


def setup_of(ready: messages.Ready) -> Setup:
    """In which a reproducible request would be computed by this worker."""
    setup = ready.setup
    return Setup(
        n_ctx=setup.n_ctx,
        n_batch=setup.n_batch,
        n_threads=setup.n_threads,
        flash_attn=setup.flash_attn,
        library=ready.library,
        backend=ready.backend,
        template_sha256=ready.template_sha256,
    )


def _with_given_threads(tuning: messages.Tuning | None, settings: EngineSettings) -> messages.Tuning | None:
    """Threads that an operator wrote down beat those that were measured."""
    if tuning is None:
        return None
    return messages.Tuning(
        tuning.flash_attn,
        settings.n_threads or tuning.n_threads,
        settings.n_threads_batch or tuning.n_threads_batch,
        tuning.apart,
        tuning.backend,
    )


def to_wire(
    request: InferenceRequest,
    tenant: str,
    *,
    request_id: str = "",
    choice: int = 0,
    adapter: Adapter | None = None,
) -> messages.Generate:
    """One choice of a question, on its way to the worker.

    `tenant` names who may share its prefix: hashed here. A seed gives each choice its own answer.
    """
    sampling = request.sampling
    seed = sampling.seed
    return messages.Generate(
        request_id=request_id or request.request_id,
        messages=tuple(turn_to_wire(each) for each in request.messages),
        sampling=question.Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repeat_penalty=sampling.repeat_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            seed=None if seed is None else (seed + choice % request.n) % SEEDS,
            max_tokens=sampling.max_tokens,
            stop=sampling.stop,
            logit_bias=sampling.logit_bias,
            top_logprobs=sampling.top_logprobs,
        ),
        # Tells callers apart and names none of them.
        tenant=hashlib.sha256(tenant.encode()).hexdigest()[:16],
        schema=request.schema,
        setup=_setup_to_wire(request.setup) if request.setup else None,
        prompt=request.prompts[choice // request.n] if request.prompts else None,
        tools=tools_to_wire(request.tooling),
        effort=request.effort,
        adapter=adapter_id(adapter),
    )


def turn_to_wire(turn: ChatMessage) -> question.Turn:
    """One message of a conversation."""
    return question.Turn(
        role=turn.role,
        content=turn.content,
        tool_calls=tuple(question.Call(each.id, each.name, each.arguments) for each in turn.tool_calls),
        tool_call_id=turn.tool_call_id,
        reasoning=turn.reasoning,
    )


def tools_to_wire(tooling: Tooling | None) -> question.Tools | None:
    """What may be called."""
    if tooling is None:
        return None
    return question.Tools(
        tools=tuple(
            question.ToolSpec(each.name, each.description, each.parameters) for each in tooling.tools
        ),
        choice=tooling.choice,
        parallel=tooling.parallel,
    )


def to_core(message: messages.ToGateway, *, choice: int = 0) -> Started | Delta | Finished:
    """What came from the worker. RequestError or Unavailable where that is a refusal or a failure."""
    match message:
        case messages.Started():
            return Started(message.prompt_tokens, message.begins_thinking, choice)
        case messages.Delta():
            return Delta(
                text=message.text,
                num_tokens=message.num_tokens,
                index=choice,
                logprobs=tuple(TokenLogprob(each.token, each.logprob, each.top) for each in message.logprobs),
            )
        case messages.Finished() if message.reason != "aborted":
            reason = FinishReason(message.reason)
            return Finished(
                reason=reason,
                usage=Usage(message.prompt_tokens, message.completion_tokens, message.cached_tokens),
                timings=Timings(message.queue_us, message.prefill_us, message.decode_us),
                trace=_trace_of(message),
                reasons=(reason,),
                stops=(message.stop,),
            )
        case messages.Rejected(code="adapter_not_loaded"):  # the caller named an alias: not its mistake
            raise Unavailable(message.message, code=message.code, retry_after_seconds=2)
        case messages.Rejected():
            raise RequestError(message.message, code=message.code, param=message.param)
        case messages.Failed():
            raise Unavailable(message.message, code=message.code, retry_after_seconds=2)
        case _:
            raise Unavailable("the model's worker is out of step", code="engine_failed")


def _setup_to_wire(setup: Setup) -> messages.Setup:
    return messages.Setup(setup.n_ctx, setup.n_batch, setup.n_threads, setup.flash_attn)


def _trace_of(message: messages.Finished) -> Trace | None:
    if not message.digests:
        return None
    size = messages.DIGEST_BYTES
    parts = (message.digests[at : at + size].hex() for at in range(0, len(message.digests), size))
    return Trace(tokens=message.tokens, digests=tuple(parts))
