"""The worker's life: load, say Ready, then two threads until the gateway goes or says so.

    intake thread   reads the channel, renders and tokenises, hands sequences over
    step thread     owns the model's context and every sequence; the main thread

End of file means that the gateway is gone: the intake thread ends the process at once, also in the
middle of a long decode. Nothing is worth finishing for nobody.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import queue
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable

from appliance.clock import SystemClock
from appliance.engine.channel import BlockingChannel, ChannelError
from appliance.engine.messages import (
    Abort,
    Generate,
    LoadFailed,
    LoadModel,
    Ready,
    Rejected,
    Shutdown,
    ToGateway,
    ToWorker,
)
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.core import EngineCore, Limits
from appliance.engine.worker.prepare import Preparer
from appliance.engine.worker.prompt import PromptBuilder
from appliance.engine.worker.sequence import Sequence

_PR_SET_DUMPABLE = 4
Channel = BlockingChannel[ToWorker, ToGateway]
NewBackend = Callable[[LoadModel], Backend]


def run(fd: int, new_backend: NewBackend) -> int:
    """Serve one model on an inherited socket; the exit code."""
    _harden()
    channel: Channel = BlockingChannel(socket.socket(fileno=fd), ToWorker)
    load = channel.receive()
    if load is None:
        return 0
    if not isinstance(load, LoadModel):
        raise ChannelError("the first message must be LoadModel")
    clock = SystemClock()
    began_us = clock.monotonic_us()
    try:
        backend = new_backend(load)
        builder = PromptBuilder(backend)
        core = EngineCore(
            backend,
            Limits(
                max_waiting=load.max_waiting,
                step_target_us=load.step_target_us,
                prefix_cache_cells=load.prefix_cache_cells,
                spilled_cells=load.spill_bytes // max(1, backend.model.cell_bytes),
                speculation=load.speculation,
            ),
            clock=clock,
            emit=lambda each: channel.send(*each),
            declared=[builder.declared_prefix(text) for text in load.shared_prefixes],
        )
    except Exception as error:  # the process edge: whatever it is, the operator must hear of it
        channel.send(LoadFailed(f"{type(error).__name__}: {error}"))
        return 1
    inbox: queue.SimpleQueue[Sequence | Abort] = queue.SimpleQueue()
    channel.send(_ready(backend, clock.monotonic_us() - began_us))
    threading.Thread(
        target=_intake, args=(channel, Preparer(builder, backend), inbox), name="intake", daemon=True
    ).start()
    _step_for_ever(core, inbox)
    return 0


def _step_for_ever(core: EngineCore, inbox: queue.SimpleQueue[Sequence | Abort]) -> None:
    while True:
        # With nothing to do wait for news; otherwise take all that is there and go on.
        item: Sequence | Abort | None = None if core.has_work else inbox.get()
        while True:
            if isinstance(item, Sequence):
                core.add(item)
            elif isinstance(item, Abort):
                core.abort(item.request_id)
            try:
                item = inbox.get_nowait()
            except queue.Empty:
                break
        core.step()


def _intake(
    channel: Channel,
    preparer: Preparer,
    inbox: queue.SimpleQueue[Sequence | Abort],
) -> None:
    try:
        while True:
            message = channel.receive()
            match message:
                case Generate():
                    prepared = preparer.prepare(message)
                    if isinstance(prepared, Rejected):
                        channel.send(prepared)
                    else:
                        inbox.put(prepared)
                case Abort():
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


def _ready(backend: Backend, load_us: int) -> Ready:
    model = backend.model
    return Ready(
        n_ctx=min(model.n_ctx, model.n_ctx_train),
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
    )


def _harden() -> None:
    """Prompts live in this memory: no core dumps, no debugger of the same user, no stay behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
