"""A loaded model: weights and vocabulary, and what they say of themselves.

`tokenize` may be called from any thread (llama.h documents it so); everything else belongs to the
thread that loaded the model.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

from llama_cpp import llama_cpp as lib

from appliance.engine.messages import LoadModel
from appliance.engine.worker.embedder import RerankShape
from appliance.engine.worker.llama import heard
from appliance.engine.worker.llama.library import LoadError

_PIECE_BYTES = 256
_META_BYTES = 256


def files_of(load: LoadModel) -> list[str]:
    """Everything that is read for a model."""
    return list(dict.fromkeys([*(load.parts or (load.path,)), *(each.path for each in load.adapters)]))


class LoadedModel:
    """Owner of the library's model. Close every context before it."""

    def __init__(
        self, path: str, *, n_gpu_layers: int, parts: Sequence[str] = (), tensor_split: Sequence[int] = ()
    ) -> None:
        """`parts` are the files of a split model in their order. Their names need not tell it: the store
        names files by their content. `tensor_split`: each device's share; empty: the library divides.
        """
        params = lib.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        if tensor_split:
            params.tensor_split = (ctypes.c_float * int(lib.llama_max_devices()))(*tensor_split)
        heard.forget()
        self.pointer: Any
        if len(parts) > 1:
            paths = (ctypes.c_char_p * len(parts))(*map(os.fsencode, parts))
            self.pointer = lib.llama_model_load_from_splits(paths, len(parts), params)
        else:
            self.pointer = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.pointer:
            raise LoadError("llama.cpp can not load this file; its own words stand above")
        self.buffers = heard.take()
        self.vocab: Any = lib.llama_model_get_vocab(self.pointer)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self.vocab))
        self._pieces: list[bytes | None] = [None] * self.n_vocab

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
        """A prompt, or a part of one."""
        # Not add_special: it would end some models' prompts with EOS, too.
        bos = lib.llama_vocab_bos(self.vocab) if add_bos else -1
        tokens = self.encode(text, add_special=False, parse_special=parse_special)
        return [*([bos] if bos >= 0 else []), *tokens]

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """llama_tokenize; it returns the negative of what it needs where the room is too small."""
        data = text.encode("utf-8")
        room = len(data) + 8
        tokens = (lib.llama_token * room)()
        count = lib.llama_tokenize(self.vocab, data, len(data), tokens, room, add_special, parse_special)
        if count < 0:
            room = -count
            tokens = (lib.llama_token * room)()
            count = lib.llama_tokenize(self.vocab, data, len(data), tokens, room, add_special, parse_special)
        if count < 0:
            raise RuntimeError("the text can not be tokenised")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """Cached: a vocabulary is small and a step is short."""
        cached = self._pieces[token]
        if cached is None:
            cached = self._pieces[token] = self.read_piece(token, special=False)
        return cached

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self.vocab, token))

    def is_control(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_control(self.vocab, token))

    def control_texts(self) -> list[str]:
        """The texts of all control tokens, longest first."""
        found = {
            self.text_of(token)
            for token in range(self.n_vocab)
            if self.is_control(token) or self.is_end(token)
        }
        return sorted(found - {""}, key=len, reverse=True)

    def text_of(self, token: int) -> str:
        """A token's text, control tokens too; empty for a token that there is not."""
        return self.read_piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def read_piece(self, token: int, *, special: bool) -> bytes:
        """A token's bytes from the library; control tokens only with `special`."""
        room = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = lib.llama_token_to_piece(self.vocab, token, buffer, room, 0, special)
            if size >= 0:
                return buffer.raw[:size]
            room = -size

    @property
    def n_params(self) -> int:
        return int(lib.llama_model_n_params(self.pointer))

    @property
    def n_ctx_train(self) -> int:
        return int(lib.llama_model_n_ctx_train(self.pointer))

    @property
    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self.pointer, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def template(self) -> str:
        """The chat template that the file carries; empty where it carries none."""
        found = lib.llama_model_chat_template(self.pointer, None)
        return found.decode("utf-8", "replace") if found else ""

    @property
    def width(self) -> int:
        """What the layers work with, in numbers per token."""
        return int(lib.llama_model_n_embd(self.pointer))

    @property
    def cell_bytes(self) -> int:
        """Of one token in a key-value pool of 16-bit floats: keys and values of every layer.

        Layers without attention or with a window need less: an upper bound for those models.
        """
        width = self.width // max(1, int(lib.llama_model_n_head(self.pointer)))
        arch = self._meta("general.architecture")
        keys = int(self._meta(f"{arch}.attention.key_length") or width)
        values = int(self._meta(f"{arch}.attention.value_length") or width)
        heads = int(lib.llama_model_n_head_kv(self.pointer))
        return int(lib.llama_model_n_layer(self.pointer)) * heads * (keys + values) * 2

    @property
    def can_share_prefixes(self) -> bool:
        """Cells by position only: no recurrent state, no sliding window."""
        return not (
            lib.llama_model_is_recurrent(self.pointer)
            or lib.llama_model_is_hybrid(self.pointer)
            or lib.llama_model_n_swa(self.pointer) > 0
        )

    @property
    def n_embd(self) -> int:
        """Of a pooled vector; it can differ from what the layers work with."""
        return int(lib.llama_model_n_embd_out(self.pointer))

    @property
    def has_encoder(self) -> bool:
        """Encoder-decoder families: T5 and its like."""
        return bool(lib.llama_model_has_encoder(self.pointer))

    @property
    def is_recurrent(self) -> bool:
        return bool(lib.llama_model_is_recurrent(self.pointer) or lib.llama_model_is_hybrid(self.pointer))

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only those before it: what the file says, and true where it says nothing."""
        return self._meta(f"{self._meta('general.architecture')}.attention.causal") != "false"

    @property
    def rerank(self) -> RerankShape:
        """How a pair of query and document is put together, by the file and its vocabulary."""
        vocab = self.vocab
        eos, sep = int(lib.llama_vocab_eos(vocab)), int(lib.llama_vocab_sep(vocab))
        end = eos if eos >= 0 else sep
        ends = (end,) if lib.llama_vocab_get_add_eos(vocab) and end >= 0 else ()
        begins = lib.llama_vocab_get_add_bos(vocab) and int(lib.llama_vocab_bos(vocab)) >= 0
        found = lib.llama_model_chat_template(self.pointer, b"rerank")
        return RerankShape(
            template=found.decode("utf-8", "replace") if found else "",
            head=(int(lib.llama_vocab_bos(vocab)),) if begins else (),
            middle=(*ends, *((sep,) if lib.llama_vocab_get_add_sep(vocab) and sep >= 0 else ())),
            tail=ends,
        )

    def _meta(self, key: str) -> str:
        """A value of the file's metadata as text; empty where there is none."""
        buffer = ctypes.create_string_buffer(_META_BYTES)
        size = lib.llama_model_meta_val_str(self.pointer, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else ""

    def close(self) -> None:
        lib.llama_model_free(self.pointer)
