"""The library itself: loaded once in a process, its backends by explicit path, its words to standard error.

A GPU's backend comes before the processor's: llama.cpp asks devices in the order in which they came.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as lib

from appliance.engine import devices
from appliance.engine.worker.backend import LoadError
from appliance.engine.worker.llama import heard
from appliance.fitting.plan import Device

__all__ = ["Computing", "LoadError", "adds_bos", "init_library", "scores", "special_tokens", "version"]

_NATIVE: Any = lib._lib  # noqa: SLF001 - the one handle through which backends must be loaded
_GGML_LOG_WARN = 3
_GGML_LOG_CONT = 5  # goes on with the line before, whatever its level was
_GPU_TYPES = (1, 2)  # ggml_backend_dev_type: a GPU of its own, one in the processor
_LABEL_CHARACTERS = 300
_SIZE = ctypes.POINTER(ctypes.c_size_t)

_heard: list[str] = []  # what the library said while a backend was being loaded


@dataclass(frozen=True, slots=True)
class Computing:
    """What computes in this process."""

    label: str  # every device, and the processor's variant
    gpus: tuple[str, ...]
    fallback: str = ""  # why no GPU is among them, though its backend is installed: a code of `devices`
    fallback_says: str = ""
    memories: tuple[Device, ...] = ()  # of the GPUs, before anything was loaded


_computing: Computing | None = None  # of this process: backends are never taken back


@lib.llama_log_callback
def _on_log(level: int, text: bytes, _user_data: object) -> None:
    line = text.decode("utf-8", "replace")
    heard.note(line)
    if level >= _GGML_LOG_WARN and level != _GGML_LOG_CONT:
        _heard.append(line.strip())
        del _heard[:-1]
        sys.stderr.write(line)


def init_library(*, device: str = "auto", n_gpu_layers: int = -1, cpu_variant: str = "") -> Computing:
    """Backends by explicit path, then the library; a second call changes nothing.

    Without a path llama.cpp would search the current directory for code to load. LoadError where what
    `device` or `cpu_variant` asks for can not compute here.
    """
    global _computing  # noqa: PLW0603 - the library's own registry is as global
    lib.llama_log_set(_on_log, ctypes.c_void_p(0))
    _declare()
    if _computing is not None:
        return _computing
    place = Path(llama_cpp.__file__).parent / "lib"
    fallback = says = ""
    if devices.asks_gpu(device, n_gpu_layers):
        fallback, says = _load_gpu(place)
        if device == "cuda" and fallback:
            raise LoadError(f"engine.device is 'cuda', and {says}: {devices.HINTS[fallback]}", code=fallback)
        if fallback == devices.NOT_INSTALLED:  # nothing that was there is left aside
            fallback = says = ""
    variant = _load_cpu(place, cpu_variant)
    lib.llama_backend_init()
    gpus = tuple(f"{_name(each)} ({_description(each)})" for each in _devices() if _is_gpu(each))
    others = [_name(each) for each in _devices() if not _is_gpu(each)]
    label = "+".join([*gpus, *others, *([f"ggml-cpu-{variant}"] if variant else [])])
    memories = tuple(_memory(each) for each in _devices() if _is_gpu(each))
    _computing = Computing(label[:_LABEL_CHARACTERS], gpus, fallback, says[:_LABEL_CHARACTERS], memories)
    return _computing


def scores(place: Path) -> dict[str, int]:
    """The processor's variants by ggml's own score: 0 for those that it can not run, the best highest."""
    libc = ctypes.CDLL(None)
    libc.dlclose.argtypes = [ctypes.c_void_p]
    found = {}
    for name, path in devices.cpu_libraries(place).items():
        opened = ctypes.CDLL(str(path))
        found[name] = int(opened.ggml_backend_score())
        libc.dlclose(opened._handle)  # noqa: SLF001 - Python never closes a library by itself
    return found


def validator() -> Any:
    """ggml_validate_row_data(type, address, bytes): whether a tensor's blocks hold numbers only."""
    _NATIVE.ggml_validate_row_data.restype = ctypes.c_bool
    _NATIVE.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    return _NATIVE.ggml_validate_row_data


def version() -> str:
    """Of the bindings; the library is vendored in them."""
    return f"llama-cpp-python {llama_cpp.__version__}"


def special_tokens(vocab: Any) -> tuple[int, int]:
    """BOS and EOS; negative where the vocabulary has none."""
    return int(lib.llama_vocab_bos(vocab)), int(lib.llama_vocab_eos(vocab))


def adds_bos(vocab: Any) -> bool:
    """Whether prompts of this vocabulary begin with BOS."""
    return bool(lib.llama_vocab_get_add_bos(vocab))


def _load_gpu(place: Path) -> tuple[str, str]:
    """Load the GPU's backend. Empty where a GPU answers; otherwise the code, and what is so."""
    library = devices.gpu_library(place)
    if library is None:
        return devices.NOT_INSTALLED, f"{devices.GPU_LIBRARY} is not among llama.cpp's libraries"
    try:
        for each in devices.runtime_libraries(place):
            ctypes.CDLL(str(each), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))  # ggml tells only that it did not load, and this why
    except OSError as error:
        return devices.NOT_LOADABLE, f"the GPU's backend can not be loaded: {error}"
    _heard.clear()
    if not _NATIVE.ggml_backend_load(os.fsencode(library)):
        return devices.NOT_LOADABLE, "the GPU's backend can not be loaded: it is of another llama.cpp"
    if not any(map(_is_gpu, _devices())):
        heard = f": {_heard[-1]}" if _heard else ""
        return devices.NO_DEVICE, f"the GPU's backend finds no GPU{heard}"
    return "", ""


def _load_cpu(place: Path, wanted: str) -> str:
    """Load the processor's best variant, or the one that is wanted; its name, empty where it is built in."""
    if _NATIVE.ggml_backend_dev_by_type(0):
        return ""
    usable = {name: score for name, score in scores(place).items() if score > 0}
    if not usable:
        raise LoadError("no compute device: this build has no backend for this machine")
    variant = wanted or max(usable, key=lambda name: usable[name])
    if variant not in usable:
        raise LoadError(
            f"engine.cpu_variant is {variant!r}, which this processor can not run; it can: "
            + ", ".join(sorted(usable, key=lambda name: usable[name])),
            code="cpu_variant",
        )
    if not _NATIVE.ggml_backend_load(os.fsencode(devices.cpu_libraries(place)[variant])):
        raise LoadError(f"llama.cpp can not load its variant {variant} for the processor")
    return variant


def _declare() -> None:
    """The bindings have no ggml_backend_*."""
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "ggml_backend_load": (ctypes.c_void_p, [ctypes.c_char_p]),
        "ggml_backend_dev_count": (ctypes.c_size_t, []),
        "ggml_backend_dev_get": (ctypes.c_void_p, [ctypes.c_size_t]),
        "ggml_backend_dev_by_type": (ctypes.c_void_p, [ctypes.c_int]),
        "ggml_backend_dev_name": (ctypes.c_char_p, [ctypes.c_void_p]),
        "ggml_backend_dev_description": (ctypes.c_char_p, [ctypes.c_void_p]),
        "ggml_backend_dev_type": (ctypes.c_int, [ctypes.c_void_p]),
        "ggml_backend_dev_memory": (None, [ctypes.c_void_p, _SIZE, _SIZE]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(_NATIVE, name)
        function.restype, function.argtypes = result, arguments


def _devices() -> list[int]:
    return [_NATIVE.ggml_backend_dev_get(index) for index in range(_NATIVE.ggml_backend_dev_count())]


def _is_gpu(device: int) -> bool:
    return _NATIVE.ggml_backend_dev_type(device) in _GPU_TYPES


def _name(device: int) -> str:
    return str(_NATIVE.ggml_backend_dev_name(device).decode("utf-8", "replace"))


def _memory(device: int) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _NATIVE.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    return Device(_name(device)[:_LABEL_CHARACTERS], free.value, total.value)


def _description(device: int) -> str:
    return str(_NATIVE.ggml_backend_dev_description(device).decode("utf-8", "replace"))
