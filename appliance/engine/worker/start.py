"""A worker's first lines: confined before it imports, or reads, anything that is large or foreign.

What the model needs (NumPy, the grammars' compiler, llama.cpp) is imported inside the sandbox, by
`program`; until then this process has one thread, which is what the kernel's layers are put around.
"""

from __future__ import annotations

import argparse
import importlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.engine.channel import BlockingChannel, ChannelError
from appliance.engine.messages import LoadFailed, LoadModel, ToGateway, ToWorker
from appliance.engine.worker import keeper, leash
from appliance.engine.worker.sandbox import Confinement, Sandbox

if TYPE_CHECKING:
    from appliance.engine.worker.program import NewBackend


def main(new_backend: NewBackend, new_sandbox: Callable[[], Confinement] = Sandbox) -> int:
    """The program: `--fd N` is its socket, `--leashed` that a leash comes first on it (leash.py)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--leashed", action="store_true")
    options = parser.parse_args()
    sandbox = new_sandbox()
    fd = leash.off_standard_input(options.fd)
    sandbox.harden({fd})
    if options.leashed:
        leash.take(fd)
    return run(fd, new_backend, sandbox)


def run(fd: int, new_backend: NewBackend, sandbox: Confinement) -> int:
    """Serve one model on an inherited socket; the exit code."""
    channel: BlockingChannel[ToWorker, ToGateway] = BlockingChannel(socket.socket(fileno=fd), ToWorker)
    load = channel.receive()
    if load is None:
        return 0
    if not isinstance(load, LoadModel):
        raise ChannelError("the first message must be LoadModel")
    try:
        sandbox.enter(load)
        pipes = keeper.fork(sandbox)
    except Exception as error:  # the process edge: whatever it is, the operator must hear of it
        channel.send(LoadFailed(f"{type(error).__name__}: {error}"))
        return 1
    program = importlib.import_module("appliance.engine.worker.program")
    served: int = program.serve(channel, load, new_backend, sandbox, pipes)
    return served
