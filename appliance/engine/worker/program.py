"""The worker's life: load, be sealed, say Ready, then four threads until the gateway goes or says so.

    intake thread   reads the channel, renders and tokenises, hands sequences and jobs over
    compiling       schemas that come for the first time, on their way from the one to the other
    step thread     owns the model's contexts and every sequence; the main thread
    pulse           says each second that the worker lives

End of file means that the gateway is gone: the intake thread ends the process at once, also in the
middle of a long decode. Nothing is worth finishing for nobody.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from appliance.clock import SystemClock
from appliance.dialects import Speech
from appliance.engine import resident
from appliance.engine.channel import BlockingChannel, ChannelError
from appliance.engine.messages import (
    Abort,
    Count,
    Detokenize,
    Embed,
    Generate,
    LoadFailed,
    LoadModel,
    Rank,
    Ready,
    Rejected,
    Shutdown,
    ToGateway,
    Tokenize,
    ToWorker,
)
from appliance.engine.worker.backend import Backend, LoadError
from appliance.engine.worker.compiling import Compiling
from appliance.engine.worker.core import EngineCore
from appliance.engine.worker.desk import Desk
from appliance.engine.worker.embedding import EmbeddingCore, Job
from appliance.engine.worker.prepare import Preparer, Read
from appliance.engine.worker.prompt import PromptBuilder
from appliance.engine.worker.pulse import INTAKE, STEP, Pulses
from appliance.engine.worker.sandbox import Confinement
from appliance.engine.worker.sequence import Sequence
from appliance.engine.worker.together import Limits
from appliance.engine.worker.trial import Pipes

Channel = BlockingChannel[ToWorker, ToGateway]
NewBackend = Callable[[LoadModel], Backend]
Inbox = queue.SimpleQueue[Sequence | Job | Abort]


def serve(
    channel: Channel, load: LoadModel, new_backend: NewBackend, sandbox: Confinement, pipes: Pipes
) -> int:
    """Load, and serve until the gateway goes; the exit code. No prompt is read before the seal."""
    clock = SystemClock()
    began_us = clock.monotonic_us()
    try:
        backend = new_backend(load)
        builder = PromptBuilder(backend)
        num_pools = 1 if backend.apart is None else 2
        core = EngineCore(
            backend,
            Limits(
                max_waiting=load.max_waiting,
                step_target_us=load.step_target_us,
                prefix_cache_cells=load.prefix_cache_cells,
                spilled_cells=load.spill_bytes // max(1, backend.model.cell_bytes) // num_pools,
                speculation=load.speculation,
            ),
            clock=clock,
            emit=lambda each: channel.send(*each),
            declared=[builder.declared_prefix(text) for text in load.shared_prefixes if backend.model.writes],
            resident=resident.own,
        )
        preparer = Preparer(builder, backend, pipes)
        preparer.rehearse()
        embedding = EmbeddingCore(
            backend,
            max_waiting=load.max_waiting,
            step_target_us=load.step_target_us,
            clock=clock,
            emit=lambda each: channel.send(*each),
        )
        if not backend.model.writes:  # what it is for must fit, and is told with its memory
            embedding.prepare()
        layers = sandbox.seal(on_gpu=backend.model.on_gpu)
    except Exception as error:  # the process edge: whatever it is, the operator must hear of it
        said = f"{type(error).__name__}: {error}"
        channel.send(LoadFailed(said, error.code) if isinstance(error, LoadError) else LoadFailed(said))
        return 1
    inbox: Inbox = queue.SimpleQueue()
    pulses = Pulses(clock)
    load_us = clock.monotonic_us() - began_us
    channel.send(_ready(load, backend, builder.speech, layers, load_us), pulses.take())
    compiling = Compiling(preparer, max_waiting=load.max_waiting, deliver=inbox.put, say=channel.send)
    threading.Thread(target=_compile, args=(compiling,), name="compiling", daemon=True).start()
    threading.Thread(
        target=_intake,
        args=(channel, Desk(backend, builder), preparer, compiling, inbox, pulses),
        name="intake",
        daemon=True,
    ).start()
    threading.Thread(target=pulses.beat_for_ever, args=(channel.send,), name="pulse", daemon=True).start()
    try:
        _step_for_ever(core, embedding, inbox, pulses)
    except Exception as error:  # the thread's edge; its traceback may quote a prompt
        sys.stderr.write(f"the step thread failed: {type(error).__name__}\n")
        os._exit(1)


def _step_for_ever(core: EngineCore, embedding: EmbeddingCore, inbox: Inbox, pulses: Pulses) -> NoReturn:
    while True:
        # With nothing to do wait for news; otherwise take all that is there and go on.
        has_work = core.has_work or embedding.has_work
        if not has_work:
            pulses.rests(STEP)
        item: Sequence | Job | Abort | None = None if has_work else inbox.get()
        pulses.begins(STEP)
        while True:
            if isinstance(item, Sequence):
                core.add(item)
            elif isinstance(item, Job):
                embedding.add(item)
            elif isinstance(item, Abort):
                core.abort(item.request_id)
                embedding.abort(item.request_id)
            try:
                item = inbox.get_nowait()
            except queue.Empty:
                break
        # In turn: an answer waits for one bounded batch of embeddings, never for a whole job.
        if core.has_work or not embedding.has_work:
            core.step()
        embedding.step(is_shared=core.has_work)


def _intake(
    channel: Channel,
    desk: Desk,
    preparer: Preparer,
    compiling: Compiling,
    inbox: Inbox,
    pulses: Pulses,
) -> None:
    try:
        while True:
            pulses.rests(INTAKE)
            message = channel.receive()
            pulses.begins(INTAKE)
            match message:
                case Generate():
                    prepared = preparer.read(message)
                    if isinstance(prepared, Rejected):
                        channel.send(prepared)
                    elif isinstance(prepared, Read):
                        compiling.add(prepared)
                    else:
                        inbox.put(prepared)
                case Embed() | Rank() | Tokenize() | Detokenize() | Count():
                    taken = desk.take(message)
                    if isinstance(taken, Job):
                        inbox.put(taken)
                    else:
                        _answer(channel, taken, message.request_id)
                case Abort():
                    if not compiling.abort(message.request_id):
                        inbox.put(message)
                case Shutdown() | None:
                    os._exit(0)
                case LoadModel():
                    raise ChannelError("a second LoadModel")
    except (ChannelError, OSError) as error:
        sys.stderr.write(f"the gateway can not be understood: {type(error).__name__}\n")
        os._exit(1)
    except Exception as error:  # the thread's edge: without it nobody hears callers, or the gateway's end
        sys.stderr.write(f"the intake thread failed: {type(error).__name__}\n")
        os._exit(1)


def _compile(compiling: Compiling) -> None:
    try:
        compiling.run()
    except BaseException as error:  # the thread's edge, and a panic of native code is no Exception
        sys.stderr.write(f"the compiling thread failed: {type(error).__name__}\n")
        os._exit(1)


def _answer(channel: Channel, answer: ToGateway, request_id: str) -> None:
    """Send an answer whose size the caller decides: one that no frame can hold is a refusal."""
    try:
        channel.send(answer)
    except ChannelError:
        channel.send(Rejected(request_id, "invalid_value", "the answer would be too large"))


def _ready(load: LoadModel, backend: Backend, speech: Speech, layers: tuple[str, ...], load_us: int) -> Ready:
    model = backend.model
    return Ready(
        n_ctx=model.max_tokens,
        n_ctx_train=model.n_ctx_train,
        n_cells=model.n_ctx,
        n_seq_max=model.n_seq_max,
        n_vocab=model.n_vocab,
        n_params=model.n_params,
        description=model.description,
        backend=model.backend,
        library=model.library,
        template_sha256=hashlib.sha256(model.template.encode()).hexdigest(),
        load_us=load_us,
        can_share_prefixes=model.can_share_prefixes,
        cell_bytes=model.cell_bytes,
        tuning=backend.tuning,
        setup=backend.setup,
        trials=backend.trials,
        pid=os.getpid(),
        resident_bytes=resident.own(),
        dialect=speech.dialect.name,
        calls_natively=speech.is_native,
        thinks=speech.thinks,
        sandbox=layers,
        fallback=model.fallback or None,
        fallback_says=model.fallback_says,
        purpose=load.purpose,
        adapters=tuple(sorted(model.adapters)),
        buffers=model.buffers,
        memories=model.memories,
        n_gpu_layers=model.n_gpu_layers,
        can_skip_thinking=speech.thinks and speech.can_refuse_effort and bool(speech.effort_variables),
    )
