"""`python -m appliance.engine.worker.inspector --fd N`: tries one model from outside, answers once, and ends.

The same walls stand around it as around a worker, and limits of memory and time besides: whatever a file
makes of this process, the answer is a refusal.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.engine.channel import BlockingChannel
from appliance.engine.inspection import MAX_NOTES, FromTrial, Inspect, Objection, Sound
from appliance.engine.messages import LoadModel
from appliance.engine.worker.objections import ObjectionError
from appliance.engine.worker.sandbox import Sandbox, SandboxError

if TYPE_CHECKING:
    from appliance.engine.worker.llama.inspection import InspectedModel

_TEXTS = ("Hello, world: 1234567890.", "Grüße, 世界 🙂", "  two\n\n\tlines  ", "<|im_start|>system</s>[INST]")

# Rendered before the last wall is up: Python looks up codecs and the like at their first use.
_OWN_TEMPLATE = "{% for m in messages %}{{ '<\\u00fc\\n>' + m['content'] | trim | tojson }}{% endfor %}"


def main() -> int:
    """The program; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    options = parser.parse_args()
    sandbox = Sandbox()
    sandbox.harden({options.fd})
    channel: BlockingChannel[Inspect, FromTrial] = BlockingChannel(socket.socket(fileno=options.fd), Inspect)
    asked = channel.receive()
    if asked is None:
        return 0
    try:
        _limit(asked)
        sandbox.enter(_as_load(asked))
        channel.send(_tried(asked, sandbox))
    except ObjectionError as error:
        channel.send(Objection(error.code, error.reason))
    except SandboxError as error:
        channel.send(Objection("sandbox_missing", str(error)[:1000]))
    except MemoryError:
        channel.send(Objection("model_takes_too_much", "it takes more memory than a model of its size may"))
    return 0


def _limit(asked: Inspect) -> None:
    """Of memory that is written to: the mapped file does not count (getrlimit(2), RLIMIT_DATA)."""
    resource.setrlimit(resource.RLIMIT_DATA, (asked.memory_bytes, asked.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (asked.cpu_seconds, asked.cpu_seconds + 1))


def _tried(asked: Inspect, sandbox: Sandbox) -> Sound:
    native = importlib.import_module("appliance.engine.worker.llama.inspection")
    judging = importlib.import_module("appliance.engine.worker.judging")
    model: InspectedModel = native.InspectedModel(asked.path)
    if asked.num_tokens and model.n_vocab != asked.num_tokens:
        raise ObjectionError("bad_tokenizer", "llama.cpp counts another number of tokens than the header")
    for each in asked.files:
        model.check_values(Path(each))
    if asked.adapter:
        model.lay(asked.adapter)
    n_params, description = model.n_params, model.description
    judging.judge("our own", _OWN_TEMPLATE, is_main=True, bos_text="", eos_text="")
    layers = sandbox.seal()
    notes: list[str] = []
    if not asked.adapter:
        _try_tokenizer(model, is_chat=asked.purpose == "chat")
        for at, (key, text) in enumerate(asked.templates):
            notes += judging.judge(
                key,
                text,
                is_main=at == 0 and asked.purpose == "chat",
                bos_text=model.bos_text,
                eos_text=model.eos_text,
            )
    return Sound(n_params, description[:300], tuple(notes[:MAX_NOTES]), layers)


def _try_tokenizer(model: InspectedModel, *, is_chat: bool) -> None:
    """Texts become tokens that there are, and the same text again where answers are made of them."""
    for text in _TEXTS:
        tokens = model.encode(text, add_special=False, parse_special=False)
        if not tokens or any(not 0 <= each < model.n_vocab for each in tokens):
            raise ObjectionError("bad_tokenizer", "it makes no tokens, or some that there are not, of a text")
    if is_chat:
        tokens = model.encode(_TEXTS[0], add_special=False, parse_special=False)
        again = b"".join(model.piece(each) for each in tokens).decode("utf-8", "replace")
        if again.replace("\u2581", " ").strip() != _TEXTS[0]:  # a piece with a space may be missing
            raise ObjectionError("bad_tokenizer", "the tokens of a text do not make the text again")
        if not any(model.is_end(each) for each in range(model.n_vocab)):
            raise ObjectionError("bad_tokenizer", "it has no token that ends an answer")
    model.control_texts()


def _as_load(asked: Inspect) -> LoadModel:
    """What the sandbox wants to know: what is read, and that no GPU is there."""
    return LoadModel(
        model_id="",
        path=asked.folder,
        n_ctx=0,
        n_seq_max=0,
        n_batch=0,
        n_threads=1,
        n_threads_batch=1,
        n_gpu_layers=0,
        max_waiting=0,
        step_target_us=0,
        prefix_cache_cells=0,
        sandbox=asked.sandbox,
    )


if __name__ == "__main__":
    sys.exit(main())
