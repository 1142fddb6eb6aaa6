"""Where llama.cpp's loadable backends lie, and whether a GPU's is asked for. Loads nothing of them.

    device   GPU backend installed, a GPU answers   installed, none answers           not installed
    auto     the GPU computes                       the processor computes, and that  the processor computes
                                                    is told: record, /readyz, doctor
    cuda     the GPU computes                       the model is not loaded           the model is not loaded
    cpu      the processor computes; a GPU's backend is not even loaded

`engine.n_gpu_layers = 0` is `cpu`, too.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final, Literal

Device = Literal["auto", "cpu", "cuda"]

GPU_LIBRARY: Final = "libggml-cuda.so"
CPU_LIBRARIES: Final = "libggml-cpu-*.so"
_CPU_PREFIX: Final = "libggml-cpu-"
# What NVIDIA's wheels bring, in the order in which they need each other.
RUNTIME: Final = ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13")
_RUNTIME_FOLDER: Final = Path("nvidia/cu13/lib")
# Why no GPU computes, as it stands on the record.
NOT_INSTALLED: Final = "gpu_backend_missing"
NOT_LOADABLE: Final = "gpu_backend_unloadable"
NO_DEVICE: Final = "gpu_not_found"
NO_ROOM: Final = "gpu_no_room"
HINTS: Final = {
    NOT_INSTALLED: "install a release whose llama.cpp has the CUDA backend, or set engine.device = 'auto'",
    NOT_LOADABLE: "install NVIDIA's driver, 580 or newer, and the libraries that it names; "
    "where the processor shall compute: engine.device = 'cpu'",
    NO_ROOM: "end what else holds the GPU's memory, or take a smaller model, or a smaller engine.n_ctx; "
    "where the processor shall compute: engine.device = 'cpu'",
    NO_DEVICE: "look with nvidia-smi, and at DeviceAllow= of the worker's unit; "
    "where the processor shall compute: engine.device = 'cpu'",
}


def asks_gpu(device: str, n_gpu_layers: int) -> bool:
    """Whether the configuration wants, or allows, a GPU to compute."""
    return device != "cpu" and n_gpu_layers != 0


def folder() -> Path | None:
    """Where llama.cpp's libraries lie; None where it is not installed."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "lib"


def gpu_library(place: Path | None = None) -> Path | None:
    """The GPU's backend in this folder, or in llama.cpp's own; None where it is not installed."""
    place = place or folder()
    library = place / GPU_LIBRARY if place is not None else None
    return library if library is not None and library.is_file() else None


def cpu_libraries(place: Path) -> dict[str, Path]:
    """The CPU's variants in this folder, by name."""
    return {each.stem.removeprefix(_CPU_PREFIX): each for each in sorted(place.glob(CPU_LIBRARIES))}


def runtime_libraries(place: Path) -> list[Path]:
    """What a GPU's backend in this folder computes with, in the order to load them: beside it, or of
    NVIDIA's wheels beside llama.cpp's.
    """
    folders = (place, place.parent.parent / _RUNTIME_FOLDER)
    found = ([each / name for each in folders if (each / name).is_file()] for name in RUNTIME)
    return [each[0] for each in found if each]


def will_load_gpu(device: str, n_gpu_layers: int) -> bool:
    """Whether a worker will load a GPU's backend: it is asked for, and installed."""
    return asks_gpu(device, n_gpu_layers) and gpu_library() is not None
