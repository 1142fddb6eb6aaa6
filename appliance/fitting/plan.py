"""Where a model's layers go: onto the devices as far as they fit, else the host. Pure.

Layers are counted as llama.cpp counts them for `n_gpu_layers`: from the last one on, the head first. A model
that fits nowhere is refused with what it needs and what there is; `advice` says what would change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from appliance.fitting.estimate import Estimate, Kind

_MIB: Final = 1024 * 1024
HOST_RESERVE: Final = 128 * _MIB  # for the rest of the machine
DEVICE_RESERVE: Final = 512 * _MIB  # of each device: its driver's context, and what is not counted here
_COPIES: Final = 4  # of a graph's inputs, where several devices compute at once
ALL: Final = -1


@dataclass(frozen=True, slots=True)
class Device:
    """A device that computes, as the library names it."""

    name: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What is free: of the host's memory, for this process, and of each device's."""

    free_bytes: int
    devices: tuple[Device, ...] = ()
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """A memory, what the load takes of it, and what it has."""

    name: str
    needed: int
    free: int

    @property
    def fits(self) -> bool:
        return self.needed <= self.free

    @property
    def missing(self) -> int:
        """Bytes; 0 where it fits."""
        return max(0, self.needed - self.free)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which layers go where. `tensor_split`: one share for each device; empty where there is one or none."""

    n_gpu_layers: int
    tensor_split: tuple[int, ...]
    host: Room
    devices: tuple[Room, ...] = ()

    @property
    def fits(self) -> bool:
        return self.host.fits and all(each.fits for each in self.devices)

    @property
    def rooms(self) -> tuple[Room, ...]:
        return (self.host, *self.devices)


def plan(estimate: Estimate, machine: Machine, n_gpu_layers: int = ALL) -> Plan:
    """The plan with these many layers on the devices; `ALL`: as many as fit.

    Where not even none of them fits, the plan with none is what is told, and does not fit.
    """
    if not machine.devices or n_gpu_layers == 0:
        return _with_layers(estimate, machine, 0)
    most = len(estimate.layers) + 1
    if n_gpu_layers > 0:
        return _with_layers(estimate, machine, min(n_gpu_layers, most))
    for count in range(most, 0, -1):
        found = _with_layers(estimate, machine, count)
        if found.fits:
            return found
    return _with_layers(estimate, machine, 0)


def _with_layers(estimate: Estimate, machine: Machine, count: int) -> Plan:
    compute = estimate.of(Kind.COMPUTE)
    beside = estimate.loaded_bytes - compute - sum(estimate.layers) - _head(estimate)
    if count == 0:
        needed = estimate.loaded_bytes
        return Plan(0, (), Room("host", needed, machine.free_bytes - HOST_RESERVE))
    num_host = len(estimate.layers) + 1 - count
    kept = sum(estimate.layers[:num_host])
    # Large batches are computed on a device with host layers' weights copied there, one tensor at a time.
    copied = max((each.largest for each in estimate.shape.layers[:num_host]), default=0)
    host = Room(
        "host",
        beside + kept + (compute if num_host else estimate.inputs),
        machine.free_bytes - HOST_RESERVE,
    )
    frees = [max(0, each.free_bytes - DEVICE_RESERVE) for each in machine.devices]
    # Each device computes with buffers of its own: what is left of it holds weights and cells.
    copies = estimate.inputs * (_COPIES - 1) if len(frees) > 1 and not num_host else 0
    own = compute + copied + copies
    split = tuple(max(0, each - own) // _MIB for each in frees)
    if not sum(split):
        split = tuple(max(1, each // _MIB) for each in frees)
    taken = _divided([*estimate.layers[num_host:], _head_on_device(estimate)], split)
    rooms = tuple(
        Room(device.name, (weights + own) if weights else 0, free)
        for device, weights, free in zip(machine.devices, taken, frees, strict=True)
    )
    return Plan(count, split if len(split) > 1 else (), host, rooms)


def _divided(layers: list[int], split: tuple[int, ...]) -> list[int]:
    """Bytes on each device: layer i of n goes where i / n falls among the shares, as in llama.cpp."""
    whole = sum(split)
    ends = [each / whole for each in accumulate(split)]
    taken = [0] * len(split)
    for at, size in enumerate(layers):
        place = next((index for index, end in enumerate(ends) if at / len(layers) < end), len(split) - 1)
        taken[place] += size
    return taken


def _head(estimate: Estimate) -> int:
    """Of the host's weights, what goes with the head."""
    return estimate.shape.output_weights


def _head_on_device(estimate: Estimate) -> int:
    return estimate.head
