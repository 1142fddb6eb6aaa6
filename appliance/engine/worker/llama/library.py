"""The library itself: loaded once in a process, backends by explicit path, its words to standard error."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as lib

_NATIVE: Any = lib._lib  # noqa: SLF001 - the one handle through which backends must be loaded
_GGML_LOG_WARN = 3
_GGML_LOG_CONT = 5  # goes on with the line before, whatever its level was


class LoadError(Exception):
    """The model can not be loaded; the message is for the operator."""


@lib.llama_log_callback
def _on_log(level: int, text: bytes, _user_data: object) -> None:
    if level >= _GGML_LOG_WARN and level != _GGML_LOG_CONT:
        sys.stderr.write(text.decode("utf-8", "replace"))


def init_library() -> None:
    """Backends by explicit path, then the library. Without a path llama.cpp would search the current
    directory for code to load.
    """
    lib.llama_log_set(_on_log, ctypes.c_void_p(0))
    folder = Path(llama_cpp.__file__).parent / "lib"
    _NATIVE.ggml_backend_dev_count.restype = ctypes.c_size_t
    if _NATIVE.ggml_backend_dev_count() == 0:
        _NATIVE.ggml_backend_load_all_from_path(os.fsencode(folder))
    if _NATIVE.ggml_backend_dev_count() == 0:
        raise LoadError("no compute device: this build has no backend for this machine")
    lib.llama_backend_init()


def device_name() -> str:
    """The devices that compute, and the CPU variant that was chosen for this machine."""
    _NATIVE.ggml_backend_dev_get.restype = ctypes.c_void_p
    _NATIVE.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    _NATIVE.ggml_backend_dev_name.restype = ctypes.c_char_p
    _NATIVE.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    names = [
        _NATIVE.ggml_backend_dev_name(_NATIVE.ggml_backend_dev_get(index)).decode()
        for index in range(_NATIVE.ggml_backend_dev_count())
    ]
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    variants = {
        Path(line.split()[-1]).stem.removeprefix("lib") for line in maps.splitlines() if "libggml-cpu" in line
    }
    return "+".join([*names, *sorted(variants)])


def version() -> str:
    """Of the bindings; the library is vendored in them."""
    return f"llama-cpp-python {llama_cpp.__version__}"


def special_tokens(vocab: Any) -> tuple[int, int]:
    """BOS and EOS; negative where the vocabulary has none."""
    return int(lib.llama_vocab_bos(vocab)), int(lib.llama_vocab_eos(vocab))


def adds_bos(vocab: Any) -> bool:
    """Whether prompts of this vocabulary begin with BOS."""
    return bool(lib.llama_vocab_get_add_bos(vocab))
