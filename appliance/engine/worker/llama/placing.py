"""Where a model's layers go on this machine: asked where a GPU answers, before the library allocates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.engine import devices, fits
from appliance.engine.amounts import Memory
from appliance.engine.messages import LoadModel
from appliance.engine.worker.llama.library import Computing, LoadError
from appliance.errors import ApplianceError
from appliance.fitting.machine import read_machine


@dataclass(frozen=True, slots=True)
class Placing:
    """For the library: layers on the GPUs, and each one's share; and what computes then."""

    computing: Computing
    n_gpu_layers: int
    tensor_split: tuple[int, ...] = ()

    @property
    def on_host(self) -> bool:
        """The processor computes everything."""
        return self.n_gpu_layers == 0

    @property
    def memories(self) -> tuple[Memory, ...]:
        """Of the GPUs, before anything was loaded onto them."""
        return tuple(Memory(each.name, each.free_bytes, each.total_bytes) for each in self.computing.memories)


def place(load: LoadModel, computing: Computing) -> Placing:
    """As many layers as fit, or as were asked for. LoadError `model_does_not_fit` with the numbers."""
    if not computing.gpus:
        return Placing(computing, 0)
    try:
        made = fits.check(load, read_machine(computing.memories))
    except ApplianceError as error:
        words = f"{error.message}: {error.hint}" if error.hint else error.message
        raise LoadError(words, code=error.code) from error
    if made is None:  # the header can not be read: the library says why, or knows better
        return Placing(computing, load.n_gpu_layers)
    if made.n_gpu_layers:
        return Placing(computing, made.n_gpu_layers, made.tensor_split)
    says = "not one layer of this model fits the GPU's free memory"
    if load.device == "cuda":
        raise LoadError(
            f"engine.device is 'cuda', and {says}: {devices.HINTS[devices.NO_ROOM]}", code=devices.NO_ROOM
        )
    return Placing(replace(computing, fallback=devices.NO_ROOM, fallback_says=says), 0)
