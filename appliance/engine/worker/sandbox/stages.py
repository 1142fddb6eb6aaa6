"""The three stages, in their order. Owner: the worker's main thread, while it is the only one."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final, Protocol

from appliance import unseen
from appliance.engine import devices
from appliance.engine.messages import LoadModel
from appliance.engine.worker.sandbox import files, filters, kernel, preload

_MAX_OPEN, _MAX_OPEN_ON_GPU = 256, 4096
_STANDARD = {0, 1, 2}
_LOADING_FILE_BYTES = 1 << 20  # of a file in memory with the code of callbacks: there is no other to write
# As they stand on the record (`model:loaded`) and in `appliance doctor`.
LIMITS: Final = "limits"
PRIVILEGES: Final = "no_new_privileges"
LANDLOCK: Final = "landlock"
SECCOMP: Final = "seccomp"
SECCOMP_GPU: Final = "seccomp_gpu"  # the open list: a GPU's driver opens devices and writes code


class SandboxError(Exception):
    """A layer is missing that is required; the message is for the operator."""


class Confinement(Protocol):
    """What a worker program asks of its sandbox."""

    def harden(self, keep: Collection[int]) -> None: ...

    def enter(self, load: LoadModel) -> None: ...

    def seal(self, *, on_gpu: bool = False) -> tuple[str, ...]: ...

    def seal_trial(self) -> None: ...


class Sandbox:
    """The layers around this process, from the outside in."""

    def __init__(self) -> None:
        self._layers: list[str] = []
        self._on_gpu = False
        self._required = False
        self._held = -1

    def harden(self, keep: Collection[int]) -> None:
        """Prompts will live in this memory. `keep` is the open files that are the worker's own."""
        unseen.close_memory()
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
        _limit_files(_LOADING_FILE_BYTES)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is the gateway's business
        os.umask(0o077)
        sys.dont_write_bytecode = True
        for each in _open_files() - _STANDARD - set(keep):
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(each)
        self._layers.append(LIMITS)

    def enter(self, load: LoadModel) -> None:
        """Before anything of the model is read. SandboxError where what is required can not be had."""
        self._on_gpu = devices.will_load_gpu(load.device, load.n_gpu_layers)
        self._required = load.sandbox == "required"
        most = _MAX_OPEN_ON_GPU if self._on_gpu else _MAX_OPEN
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        unseen.gain_nothing()
        self._layers.append(PRIVILEGES)
        if abi := kernel.landlock_abi():
            self._landlock(abi, load)
        elif self._required:
            raise _missing("Landlock", "a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in lsm=")
        if kernel.has_seccomp():
            kernel.filter_calls(filters.loading(on_gpu=self._on_gpu))
        elif self._required:
            raise _missing("seccomp", "x86-64, and a kernel with CONFIG_SECCOMP_FILTER")

    def seal(self, *, on_gpu: bool = False) -> tuple[str, ...]:
        """Before the first prompt: the layers that hold from here on. OSError where the kernel refuses.

        The open list is for a GPU that computes: one that was let in and did not answer gets the short one.
        """
        preload.everything()
        _limit_files(0)
        if self._held >= 0:
            os.close(self._held)
        if kernel.has_seccomp():
            kernel.filter_calls(filters.serving_on_gpu() if on_gpu else filters.serving(os.getpid()))
            self._layers.append(SECCOMP_GPU if on_gpu else SECCOMP)
        return tuple(self._layers)

    def seal_trial(self) -> None:
        """The same for a process where grammars are tried: no GPU is there, and it limits its own time."""
        preload.everything(has_threads=False)
        _limit_files(0)
        if kernel.has_seccomp():
            unseen.gain_nothing()
            kernel.filter_calls(filters.serving(os.getpid(), limits_cpu=True))

    def _landlock(self, abi: int, load: LoadModel) -> None:
        if len(list(Path("/proc/self/task").iterdir())) > 1:  # a thread that runs already would stay outside
            raise SandboxError("threads run before the sandbox is closed")
        # For as long as a file below it may be asked for: a folder of this kind is made anew otherwise,
        # and the rule would be about another one.
        self._held = os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
        given = [load.path, *load.parts, *(each.path for each in load.adapters)]
        models = [Path(each) for each in given if each]
        files.confine(abi, readable=[*files.own_code(), *models], on_gpu=self._on_gpu)
        self._layers.append(f"{LANDLOCK}_{abi}")


def _limit_files(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def _open_files() -> set[int]:
    return {int(each.name) for each in Path("/proc/self/fd").iterdir()}


def _missing(layer: str, needs: str) -> SandboxError:
    return SandboxError(
        f"engine.sandbox is 'required' and this host has no {layer} for it; it needs {needs}. "
        "Without it: engine.sandbox = 'available'"
    )
