"""llama.cpp through llama-cpp-python's low-level bindings: the only file that imports them.

The library calls abort() on a dozen ordinary misuses, so everything that goes down is checked here
first. Context: one unified key-value pool (sequences share cells), no flash attention on the CPU
(measured faster there), outputs bounded to what a step can want. Owner: the step thread, except
`tokenize`, which the library documents as safe from any thread.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as lib

from appliance.engine.messages import LoadModel, Sampling
from appliance.engine.worker.backend import BatchItem, DecodeStatus, Model
from appliance.engine.worker.sampling import DEFAULT_TOP_K, is_greedy, wants_penalties

_NATIVE: Any = lib._lib  # noqa: SLF001 - the one handle through which backends must be loaded
_PIECE_BYTES = 256
_GGML_LOG_WARN = 3
_PENALTY_WINDOW = 256
_MAX_SEQUENCE_IDS = 256  # LLAMA_MAX_SEQ


class LoadError(Exception):
    """The model can not be loaded; the message is for the operator."""


@lib.llama_log_callback
def _on_log(level: int, text: bytes, _user_data: object) -> None:
    if level >= _GGML_LOG_WARN and level != 5:
        sys.stderr.write(text.decode("utf-8", "replace"))


class LlamaBackend:
    """One model and its one context."""

    def __init__(self, load: LoadModel) -> None:
        _init_library()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = load.n_gpu_layers
        self._model = lib.llama_model_load_from_file(os.fsencode(load.path), params)
        if not self._model:
            raise LoadError("llama.cpp can not load this file; its own words stand above")
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._context = self._new_context(load)
        self._memory = lib.llama_get_memory(self._context)
        self.model = self._describe(load)
        self._batch = _Batch(self.model.n_batch)
        self._outputs: frozenset[int] = frozenset()
        self._pieces: list[bytes | None] = [None] * self.model.n_vocab

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
        """llama_tokenize; it returns the negative of what it needs where the room is too small."""
        add_special = False  # it would end some models' prompts with EOS, too
        data = text.encode("utf-8")
        room = len(data) + 8
        tokens = (lib.llama_token * room)()
        count = lib.llama_tokenize(self._vocab, data, len(data), tokens, room, add_special, parse_special)
        if count < 0:
            room = -count
            tokens = (lib.llama_token * room)()
            count = lib.llama_tokenize(self._vocab, data, len(data), tokens, room, add_special, parse_special)
        if count < 0:
            raise RuntimeError("the text can not be tokenised")
        bos = lib.llama_vocab_bos(self._vocab) if add_bos else -1
        return [*([bos] if bos >= 0 else []), *tokens[:count]]

    def piece(self, token: int) -> bytes:
        """Cached: a vocabulary is small and a step is short."""
        cached = self._pieces[token]
        if cached is None:
            cached = self._pieces[token] = self._read_piece(token, special=False)
        return cached

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def control_texts(self) -> list[str]:
        found = {
            self._read_piece(token, special=True).decode("utf-8", "replace")
            for token in range(self.model.n_vocab)
            if lib.llama_vocab_is_control(self._vocab, token) or lib.llama_vocab_is_eog(self._vocab, token)
        }
        return sorted(found - {""}, key=len, reverse=True)

    def decode(self, batch: Sequence[BatchItem]) -> DecodeStatus:
        self._check(batch)
        self._batch.fill(batch)
        self._outputs = frozenset(row for row, item in enumerate(batch) if item.wants_logits)
        status = lib.llama_decode(self._context, self._batch.struct)
        if status == 1:
            return DecodeStatus.NO_ROOM
        if status != 0:
            raise RuntimeError(f"llama_decode failed with {status}")
        return DecodeStatus.OK

    def logits(self, row: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """A view of one row of the last batch, valid until the next."""
        if row not in self._outputs:  # sampling a row without logits aborts the process
            raise RuntimeError("this row has no logits")
        pointer = lib.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab,))

    def new_sampler(self, sampling: Sampling) -> _Greedy | _Chain:
        if is_greedy(sampling):
            return _Greedy(self)
        return _Chain(self, sampling)

    def sample(self, chain: Any, row: int) -> int:
        """llama_sampler_sample on one row of the last batch; it accepts the token too."""
        if row not in self._outputs:
            raise RuntimeError("this row has no logits")
        return int(lib.llama_sampler_sample(chain, self._context, row))

    def copy(self, source: int, target: int, length: int) -> None:
        # Memory operations take ids up to LLAMA_MAX_SEQ in a unified pool; decode does not.
        for seq_id in (source, target):
            self._check_id(seq_id, _MAX_SEQUENCE_IDS)
        if length <= 0 or length > lib.llama_memory_seq_pos_max(self._memory, source) + 1:
            raise RuntimeError("a copy of more than there is")
        lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def remove(self, seq_id: int) -> None:
        self._check_id(seq_id, _MAX_SEQUENCE_IDS)
        lib.llama_memory_seq_rm(self._memory, seq_id, -1, -1)

    def close(self) -> None:
        lib.llama_free(self._context)
        lib.llama_model_free(self._model)

    def _new_context(self, load: LoadModel) -> Any:
        if load.n_batch < load.n_seq_max:  # aborts inside the library
            raise LoadError("n_batch must not be below n_seq_max")
        params = lib.llama_context_default_params()
        params.n_ctx = load.n_ctx
        params.n_batch = params.n_ubatch = load.n_batch
        params.n_seq_max = load.n_seq_max
        params.n_outputs_max = load.n_seq_max  # a step samples each running sequence at most once
        params.n_threads = load.n_threads
        params.n_threads_batch = load.n_threads_batch
        params.kv_unified = True
        params.flash_attn_type = 0 if load.n_gpu_layers == 0 else -1
        params.no_perf = True
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise LoadError(f"no memory for a context of {load.n_ctx} cells and {load.n_seq_max} sequences")
        return context

    def _describe(self, load: LoadModel) -> Model:
        description = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self._model, description, len(description))
        template = lib.llama_model_chat_template(self._model, None)
        if not template:
            raise LoadError("the model's file has no chat template")
        return Model(
            n_ctx=int(lib.llama_n_ctx(self._context)),
            n_ctx_train=int(lib.llama_model_n_ctx_train(self._model)),
            n_seq_max=int(lib.llama_n_seq_max(self._context)),
            n_batch=min(int(lib.llama_n_batch(self._context)), load.n_batch),
            n_vocab=int(lib.llama_vocab_n_tokens(self._vocab)),
            n_params=int(lib.llama_model_n_params(self._model)),
            description=description.value.decode("utf-8", "replace"),
            backend=_device_name(),
            library=f"llama-cpp-python {llama_cpp.__version__}",
            template=template.decode("utf-8", "replace"),
            bos_text=self._token_text(lib.llama_vocab_bos(self._vocab)),
            eos_text=self._token_text(lib.llama_vocab_eos(self._vocab)),
            adds_bos=bool(lib.llama_vocab_get_add_bos(self._vocab)),
            can_share_prefixes=not (
                lib.llama_model_is_recurrent(self._model)
                or lib.llama_model_is_hybrid(self._model)
                or lib.llama_model_n_swa(self._model) > 0
            ),
        )

    def _token_text(self, token: int) -> str:
        return self._read_piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        room = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = lib.llama_token_to_piece(self._vocab, token, buffer, room, 0, special)
            if size >= 0:
                return buffer.raw[:size]
            room = -size

    def _check(self, batch: Sequence[BatchItem]) -> None:
        """Everything that would abort() or fail the whole batch (notes on the engine, §6)."""
        wanted = sum(item.wants_logits for item in batch)
        if not 0 < len(batch) <= self.model.n_batch or wanted > self.model.n_seq_max:
            raise RuntimeError("a batch is larger than the context allows")
        for item in batch:
            self._check_id(item.seq_id, self.model.n_seq_max)
            if not 0 <= item.token < self.model.n_vocab or item.position < 0:
                raise RuntimeError("a batch holds a token or a position that does not exist")

    def _check_id(self, seq_id: int, limit: int) -> None:
        if not 0 <= seq_id < limit:
            raise RuntimeError("a sequence id that does not exist")


class _Batch:
    """A llama_batch whose arrays are numpy's: filled by slices, not element by element."""

    def __init__(self, capacity: int) -> None:
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._num_ids = np.ones(capacity, np.int32)
        self._id = np.zeros(capacity, np.int32)
        self._wants = np.zeros(capacity, np.int8)
        # One pointer per token, each to its own element of `_id`.
        step = np.arange(capacity, dtype=np.uint64) * self._id.itemsize
        self._id_pointers = np.uint64(self._id.ctypes.data) + step
        self.struct = lib.llama_batch(
            n_tokens=0,
            token=self._token.ctypes.data_as(ctypes.POINTER(lib.llama_token)),
            embd=None,
            pos=self._position.ctypes.data_as(ctypes.POINTER(lib.llama_pos)),
            n_seq_id=self._num_ids.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._id_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(lib.llama_seq_id))),
            logits=self._wants.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, batch: Sequence[BatchItem]) -> None:
        size = len(batch)
        self._token[:size] = [item.token for item in batch]
        self._position[:size] = [item.position for item in batch]
        self._id[:size] = [item.seq_id for item in batch]
        self._wants[:size] = [item.wants_logits for item in batch]
        self.struct.n_tokens = size


class _Greedy:
    """Temperature 0 without penalties: the largest logit."""

    def __init__(self, backend: LlamaBackend) -> None:
        self._backend = backend

    def sample(self, row: int) -> int:
        return int(np.argmax(self._backend.logits(row)))

    def close(self) -> None:
        """Nothing to free."""


class _Chain:
    """A llama.cpp sampler chain: penalties only where set, top_k first of all that narrows."""

    def __init__(self, backend: LlamaBackend, sampling: Sampling) -> None:
        self._backend = backend
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in self._samplers(backend, sampling):
            lib.llama_sampler_chain_add(self._chain, sampler)

    @staticmethod
    def _samplers(backend: LlamaBackend, sampling: Sampling) -> list[Any]:
        made = []
        n_vocab = backend.model.n_vocab
        if wants_penalties(sampling):
            made.append(
                lib.llama_sampler_init_penalties(
                    n_vocab,
                    _PENALTY_WINDOW,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                )
            )
        if sampling.temperature <= 0:
            return [*made, lib.llama_sampler_init_greedy()]
        made.append(lib.llama_sampler_init_top_k(sampling.top_k or min(DEFAULT_TOP_K, n_vocab)))
        if sampling.top_p < 1:
            made.append(lib.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            made.append(lib.llama_sampler_init_min_p(sampling.min_p, 1))
        made.append(lib.llama_sampler_init_temp(sampling.temperature))
        seed = sampling.seed if sampling.seed is not None else lib.LLAMA_DEFAULT_SEED
        return [*made, lib.llama_sampler_init_dist(seed)]

    def sample(self, row: int) -> int:
        return self._backend.sample(self._chain, row)

    def close(self) -> None:
        lib.llama_sampler_free(self._chain)


def _init_library() -> None:
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


def _device_name() -> str:
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
