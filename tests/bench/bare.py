"""The bare library loop: nothing but llama.cpp around its tokens. `python -m tests.bench.bare < jobs`.

A program of its own, so that its threads, its memory and an abort() of the library stay out of the
bench. Reads a JSON list of jobs from standard input, and writes one line of JSON for each.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from tests.bench.rooms import Messages
from tests.starter import starter_model

_BATCH = 512


@dataclass(frozen=True)
class Setting:
    """How the library is asked to compute."""

    unified: bool
    flash: bool
    threads: int

    def __str__(self) -> str:
        pool = "unified" if self.unified else "streams"
        return f"{pool}, flash attention {'on' if self.flash else 'off'}, {self.threads} threads"


@dataclass(frozen=True)
class Job:
    """Greedy decoding of these conversations at once, so many steps."""

    setting: Setting
    conversations: list[Messages]
    steps: int
    cells: int
    chunk: int = _BATCH  # prompt tokens of one batch
    skip: int = 0  # steps before the clock starts


@dataclass(frozen=True)
class Done:
    """How long the steps took, the tokens of each conversation, and how long its prompts had taken."""

    seconds: float
    tokens: list[list[int]]
    num_read: int = 0
    read_seconds: float = 0.0


class Loop:
    """One context; sequence i is conversation i."""

    def __init__(self, model: Any, job: Job) -> None:
        self._num = len(job.conversations)
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_seq_max = job.cells, self._num
        params.n_batch = params.n_ubatch = _BATCH
        params.n_outputs_max = self._num
        params.n_threads = params.n_threads_batch = job.setting.threads
        params.kv_unified = job.setting.unified
        params.flash_attn_type = int(job.setting.flash)
        params.no_perf = True
        self._context = lib.llama_init_from_model(model, params)
        if not self._context:
            raise RuntimeError(f"no context for {job.setting}")
        self._n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)))
        self._token, self._position, self._seq = (np.zeros(_BATCH, np.int32) for _ in range(3))
        self._num_ids, self._wants = np.ones(_BATCH, np.int32), np.zeros(_BATCH, np.int8)
        pointers = np.uint64(self._seq.ctypes.data) + np.arange(_BATCH, dtype=np.uint64) * 4
        self._keep = pointers
        self._batch = lib.llama_batch(
            n_tokens=0,
            token=_pointer(self._token, lib.llama_token),
            embd=None,
            pos=_pointer(self._position, lib.llama_pos),
            n_seq_id=_pointer(self._num_ids, ctypes.c_int32),
            seq_id=pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(lib.llama_seq_id))),
            logits=_pointer(self._wants, ctypes.c_int8),
        )

    def prefill(self, prompts: list[list[int]], job: Job) -> npt.NDArray[np.int32]:
        """Read the prompts; the first token of each answer. A unified pool shares what they share."""
        shared = _common(prompts) if job.setting.unified and len(prompts) > 1 else 0
        if shared:
            self._read(prompts[0][:shared], 0, 0, job.chunk)
            memory = lib.llama_get_memory(self._context)
            for seq in range(1, self._num):
                lib.llama_memory_seq_cp(memory, 0, seq, 0, shared)
        return np.array(
            [self._read(prompt[shared:], shared, seq, job.chunk) for seq, prompt in enumerate(prompts)],
            np.int32,
        )

    def steps(self, first: npt.NDArray[np.int32], prompts: list[list[int]], job: Job) -> Done:
        """The loop that is measured."""
        num = self._num
        self._seq[:num] = np.arange(num)
        self._position[:num] = [len(each) for each in prompts]
        self._token[:num] = first
        self._wants[:num] = 1
        self._batch.n_tokens = num
        said = [first.tolist()]
        began = time.monotonic()
        for number in range(job.skip + job.steps):
            if number == job.skip:
                began = time.monotonic()
            self._decode()
            logits = np.ctypeslib.as_array(lib.llama_get_logits(self._context), shape=(num, self._n_vocab))
            self._token[:num] = logits.argmax(axis=1)
            self._position[:num] += 1
            said.append(self._token[:num].tolist())
        seconds = time.monotonic() - began
        return Done(seconds, [list(each) for each in zip(*said, strict=True)])

    def close(self) -> None:
        lib.llama_free(self._context)

    def _read(self, tokens: list[int], position: int, seq: int, chunk: int) -> int:
        """Tokens of one sequence, in batches; the token that the last one makes likeliest."""
        size = 0
        for begin in range(0, len(tokens), chunk):
            part = tokens[begin : begin + chunk]
            size = len(part)
            self._token[:size] = part
            self._position[:size] = np.arange(position + begin, position + begin + size)
            self._seq[:size] = seq
            self._wants[:size] = 0
            self._wants[size - 1] = 1
            self._batch.n_tokens = size
            self._decode()
        row = lib.llama_get_logits_ith(self._context, size - 1)
        return int(np.ctypeslib.as_array(row, shape=(self._n_vocab,)).argmax())

    def _decode(self) -> None:
        status = lib.llama_decode(self._context, self._batch)
        if status != 0:
            raise RuntimeError(f"llama_decode failed with {status}")


def _common(prompts: list[list[int]]) -> int:
    """Tokens that all prompts begin with; never the whole of one, whose last token must be computed."""
    shared = 0
    for column in zip(*(each[:-1] for each in prompts), strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared


def do(model: Any, job: Job) -> Done:
    """One job in a context of its own."""
    prompts = [_tokens(model, each) for each in job.conversations]
    loop = Loop(model, job)
    try:
        began = time.monotonic()
        first = loop.prefill(prompts, job)
        read = time.monotonic() - began
        done = loop.steps(first, prompts, job)
        return dataclasses.replace(done, num_read=sum(map(len, prompts)), read_seconds=read)
    finally:
        loop.close()


def _tokens(model: Any, messages: Messages) -> list[int]:
    """The prompt as the model's own template makes it."""
    vocab = lib.llama_model_get_vocab(model)
    template = lib.llama_model_chat_template(model, None).decode("utf-8")
    eos, bos = (
        lib.llama_vocab_get_text(vocab, token).decode("utf-8")
        for token in (lib.llama_vocab_eos(vocab), lib.llama_vocab_bos(vocab))
    )
    rendered: Any = Jinja2ChatFormatter(template, eos, bos)(messages=messages)
    data = rendered.prompt.encode("utf-8")
    room = (lib.llama_token * (len(data) + 8))()
    count = lib.llama_tokenize(vocab, data, len(data), room, len(room), False, True)  # noqa: FBT003
    return list(room[:count])


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def main() -> None:
    """Load the library as the wheel's backends want it, then the model, then do the jobs."""
    quiet = lib.llama_log_callback(lambda _level, _text, _data: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    folder = Path(llama_cpp.__file__).with_name("lib")
    lib._lib.ggml_backend_load_all_from_path(os.fsencode(folder))
    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(os.fsencode(starter_model()), params)
    if not model:
        sys.exit("the library can not load the starter model")
    for raw in json.load(sys.stdin):
        job = Job(**{**raw, "setting": Setting(**raw["setting"])})
        print(json.dumps(dataclasses.asdict(do(model, job))), flush=True)


if __name__ == "__main__":
    main()
