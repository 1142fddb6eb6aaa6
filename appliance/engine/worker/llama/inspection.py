"""A file from outside, loaded for the first time: every tensor's place and values are looked at.

Nothing is computed with it. llama.cpp refuses by an error of its own or ends the process; both are an answer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib

from appliance.engine.worker.llama import library
from appliance.engine.worker.llama.model import LoadedModel
from appliance.engine.worker.objections import ObjectionError
from appliance.gguf import header as gguf


class InspectedModel(LoadedModel):
    """The weights stay in their file: what is mapped takes no memory, however large it is."""

    def __init__(self, path: str) -> None:
        library.init_library()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_mmap = True
        params.use_extra_bufts = False  # they would be copies of the weights in another order
        self.pointer: Any = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.pointer:
            raise ObjectionError("model_does_not_load", "llama.cpp can not load it")
        self.vocab: Any = lib.llama_model_get_vocab(self.pointer)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self.vocab))
        self._pieces = [None] * self.n_vocab

    def lay(self, adapter: str) -> None:
        """Load a LoRA file over the model. ObjectionError where it does not fit."""
        laid = lib.llama_adapter_lora_init(self.pointer, os.fsencode(adapter))
        if not laid:
            raise ObjectionError("bad_adapter", "llama.cpp can not lay it over the model")
        lib.llama_adapter_lora_free(laid)

    @staticmethod
    def check_values(path: Path) -> None:
        """No value of any tensor is infinite or none. ObjectionError names the tensor.

        llama.cpp's own check takes a thread for each tensor, and its stacks would count as memory.
        """
        valid = library.validator()
        header = gguf.read(path)
        data = np.memmap(path, dtype=np.uint8, mode="r")
        for each in header.tensors:
            at = header.data_at + each.offset
            if not valid(each.type, data[at : at + each.num_bytes].ctypes.data, each.num_bytes):
                raise ObjectionError("bad_tensor", f"the tensor {each.name} holds what is no number")

    @property
    def bos_text(self) -> str:
        return self.text_of(library.special_tokens(self.vocab)[0])

    @property
    def eos_text(self) -> str:
        return self.text_of(library.special_tokens(self.vocab)[1])
