"""What was measured for a model on this machine, kept in the home: a file for each model.

Results of different tunings differ in rounding, so a choice is made once and then kept, until the
library, the processor or the number of cores is another one. Delete the file, or run
`appliance bench --tune`, to choose anew.
"""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import msgspec

from appliance import durable
from appliance.core import ModelSpec
from appliance.engine.messages import Trial, Tuning


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a measurement holds for."""

    cpu: str
    cores: int
    library: str
    n_gpu_layers: int


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    model: str
    sha256: str
    machine: Machine
    tuning: Tuning
    trials: tuple[Trial, ...]


class TuningStore(Protocol):
    """Where an engine asks how a model computes here, and keeps what it measured."""

    def find(self, spec: ModelSpec) -> Tuning | None:
        """What holds for this model; None where it is to be measured."""
        ...

    def store(self, spec: ModelSpec, tuning: Tuning, trials: tuple[Trial, ...]) -> None:
        """Keep a choice, with the figures behind it. OSError where that fails."""
        ...


class Fixed:
    """One tuning for everything; nothing is measured or kept."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning

    def find(self, spec: ModelSpec) -> Tuning | None:
        del spec
        return self._tuning

    def store(self, spec: ModelSpec, tuning: Tuning, trials: tuple[Trial, ...]) -> None:
        """Nothing to keep."""


class Tunings:
    """The files of one home. Owner of the folder: whoever runs the workers."""

    def __init__(self, folder: Path, *, n_gpu_layers: int) -> None:
        self._folder = folder
        self._machine = this_machine(n_gpu_layers)

    def path(self, spec: ModelSpec) -> Path:
        """Of the model's file."""
        name = hashlib.sha256(f"{spec.sha256} {self._machine.n_gpu_layers}".encode()).hexdigest()[:16]
        return self._folder / f"{name}.json"

    def find(self, spec: ModelSpec) -> Tuning | None:
        """What holds for this model on this machine; None where nothing was measured yet."""
        try:
            record = msgspec.json.decode(self.path(spec).read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:  # from another release, or damaged: measuring again mends it
            return None
        if record.machine != self._machine or record.sha256 != spec.sha256:
            return None
        return record.tuning

    def store(self, spec: ModelSpec, tuning: Tuning, trials: tuple[Trial, ...]) -> None:
        """Keep a choice, with the figures behind it."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        record = Record(spec.id, spec.sha256, self._machine, tuning, trials)
        data = msgspec.json.format(msgspec.json.encode(record), indent=2)
        durable.write_file(self.path(spec), data + b"\n")


def this_machine(n_gpu_layers: int) -> Machine:
    """The processor's name and the cores that this process may use."""
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        library=version("llama-cpp-python"),
        n_gpu_layers=n_gpu_layers,
    )


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "CPU part"}:
            return value.strip()
    return "unknown"
