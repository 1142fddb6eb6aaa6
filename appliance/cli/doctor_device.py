"""What `appliance doctor` says of what will compute: the processor, or a GPU with its backend and driver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.engine import devices
from appliance.engine_settings import Engine

_DRIVER: Final = Path("/proc/driver/nvidia/version")
_DEVICES: Final = "nvidia[0-9]*"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look from outside finds; whether a GPU answers, only a worker knows."""

    has_gpu_library: bool
    has_driver: bool
    num_gpus: int
    variants: tuple[str, ...]  # of the processor's


def look() -> Seen:
    """At llama.cpp's libraries and at the driver's files; loads nothing."""
    place = devices.folder()
    return Seen(
        has_gpu_library=devices.gpu_library() is not None,
        has_driver=_DRIVER.is_file(),
        num_gpus=sum(1 for each in Path("/dev").glob(_DEVICES) if re.fullmatch(r"nvidia\d+", each.name)),
        variants=tuple(devices.cpu_libraries(place)) if place is not None else (),
    )


def judge(seen: Seen, engine: Engine) -> tuple[str, str, bool]:
    """(what is so, what to do, whether a model can be loaded with it). Nothing to do: all is well."""
    if engine.cpu_variant and engine.cpu_variant not in seen.variants:
        says = f"engine.cpu_variant: llama.cpp has no variant {engine.cpu_variant!r}"
        return says, f"one of {', '.join(seen.variants)}, or leave it empty for the best", False
    variant = f"variant {engine.cpu_variant}" if engine.cpu_variant else "llama.cpp's best variant"
    processor = f"the processor computes, {variant} for it"
    if not devices.asks_gpu(engine.device, engine.n_gpu_layers):
        key = "device is 'cpu'" if engine.device == "cpu" else "n_gpu_layers is 0"
        return f"{processor}: engine.{key}", "", True
    must = engine.device == "cuda"
    if not seen.has_gpu_library:
        if must:
            says = "engine.device is 'cuda', and llama.cpp has no CUDA backend here"
            return says, devices.HINTS[devices.NOT_INSTALLED], False
        return f"{processor}; llama.cpp has no GPU backend here", "", True
    for missing, code in (
        ("no NVIDIA driver runs", not seen.has_driver and devices.NOT_LOADABLE),
        ("there is no /dev/nvidia0", not seen.num_gpus and devices.NO_DEVICE),
    ):
        if code:
            says = f"the CUDA backend is installed, and {missing}"
            return (
                f"{says}: no model is loaded" if must else f"{says}: {processor}",
                devices.HINTS[code],
                not must,
            )
    return f"a GPU computes: {seen.num_gpus} there, and the CUDA backend is installed", "", True
