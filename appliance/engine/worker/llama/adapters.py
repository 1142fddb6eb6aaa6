"""LoRA files of one loaded model, laid over its contexts by id. The library frees them with the model."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as lib

from appliance.engine.messages import AdapterFile
from appliance.engine.worker.llama.library import LoadError
from appliance.gguf import lora
from appliance.gguf.lora import AdapterError


class Adapters:
    """Each file is loaded once, however many ids lay it over the model, each as strongly as it says."""

    def __init__(self, model: Any, paths: Sequence[str], files: Sequence[AdapterFile]) -> None:
        """`model` is the library's, `paths` the files that it was loaded from. LoadError names the id."""
        self._laid: dict[str, tuple[Any, float]] = {}
        loaded: dict[str, Any] = {}
        arch, shapes = lora.shapes_of(map(Path, paths)) if files else ("", {})
        for each in files:
            if not each.id or each.id in self._laid or not math.isfinite(each.scale):
                raise LoadError(f"the adapter {each.id!r} has no id or strength of its own")
            if each.path not in loaded:
                try:
                    lora.check(Path(each.path), arch, shapes)
                except AdapterError as error:
                    raise LoadError(f"the adapter {each.id} does not fit this model: {error}") from error
                loaded[each.path] = lib.llama_adapter_lora_init(model, os.fsencode(each.path))
            if not loaded[each.path]:
                raise LoadError(f"llama.cpp can not load the adapter {each.id}; its own words stand above")
            self._laid[each.id] = (loaded[each.path], each.scale)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._laid)

    def lay(self, context: Any, adapter: str) -> None:
        """Over a context, in the place of what lay there; empty: nothing. It plans anew at its next batch."""
        found = [self._laid[adapter]] if adapter else []
        # The library takes no null pointer, not even for none of them.
        pointers = (lib.llama_adapter_lora_p_ctypes * 1)(
            *(ctypes.cast(each, lib.llama_adapter_lora_p_ctypes) for each, _ in found)
        )
        scales = (ctypes.c_float * 1)(*(scale for _, scale in found))
        if lib.llama_set_adapters_lora(context, pointers, len(found), scales) != 0:
            raise RuntimeError("the library does not lay an adapter over a context")
