"""A backend without a model: one token per byte, and an answer that the question itself scripts.

Words that the last user message may hold:
    echo: TEXT         the answer is TEXT, with a line break for each ␤ (U+2424)
    say N tokens       the answer is N short words, one token each
    please be slow     50 ms a step while this sequence runs
    please crash       the process kills itself with SIGKILL at the third token of this answer
    please hang        no step ends any more while this sequence runs
    please fail        the library fails for good at the third token (RuntimeError)
    please break the tokenizer    the intake thread meets a MemoryError
    roll N dice      the answer is N digits that the request's seed gives
    which adapter      the answer is the id of the adapter that it is computed under, or "none"
In an input of an embedding `please be slow`, `please crash` and `please fail` do the like.
Two questions of the kiosk's page are answered as a clerk would; anything else is answered with "ok".
The scripted token has by far the largest logit, the others have small ones; a bias is added to them.
Under a schema that refuses the script, an allowed token is chosen at random, by the request's seed and
what stands before it; what closes a value is likelier the longer the answer is, so that answers end.
Token 256 is the word of `say`; 257 ends an answer.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import time
import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from appliance.engine.messages import DIGEST_BYTES, LoadModel, Setup, Trial, Tuning
from appliance.engine.question import Sampling
from appliance.engine.worker.backend import BatchItem, DecodeStatus, Model, Pool
from appliance.engine.worker.embedder import EmbeddingShape, RerankShape
from appliance.engine.worker.sampling import Bias
from tests.fakes.fake_embedder import N_EMBD, FakeEmbedder

WORD, END, SYSTEM, USER, ASSISTANT = 256, 257, 258, 259, 260
SCRIPTED = 20.0  # the scripted token's logit; all others lie in 0..4
ENDING, CLOSING = [ord('"'), END], [*b"]}"]  # what brings a JSON text to its end
_CONTROLS = {"<|end|>": END, "<|system|>": SYSTEM, "<|user|>": USER, "<|assistant|>": ASSISTANT}
_SPELT = {number: name.encode() for name, number in _CONTROLS.items()}
_CONTROL_PATTERN = re.compile("|".join(map(re.escape, _CONTROLS)))
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' and not loop.first %}"
    "{{ raise_exception('only the first message may be a system message') }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


CLERK = {
    b"What do I need to register my address?": (
        "You need three things:\n\n- your **passport** or identity card,\n"
        "- the **confirmation of your landlord**,\n"
        "- the form, which lies at the entrance.\n\nPlease come within two weeks of moving in."
    ),
    b"Do I have to make an appointment?": (
        "No. Take a number at the entrance; on Tuesdays and Thursdays the counter is open until 18:00."
    ),
}


class FakeBackend:
    """Speaks the port; remembers what every sequence holds, and refuses what the library would."""

    def __init__(self, load: LoadModel, *, n_cells: int | None = None) -> None:
        self.model = Model(
            n_ctx=n_cells or load.n_ctx,
            n_ctx_train=min(8192, n_cells or load.n_ctx),
            n_seq_max=load.n_seq_max,
            n_batch=load.n_batch,
            n_vocab=261,
            n_params=0,
            description="fake",
            backend="fake",
            library="fake 1",
            template=TEMPLATE,
            bos_text="",
            eos_text="<|end|>",
            adds_bos=False,
            can_share_prefixes=True,
            max_drafts=8,
            cell_bytes=4,
            embedding=EmbeddingShape(
                n_embd=N_EMBD,
                max_tokens=load.embedding_n_ctx,
                pooling="mean",
                rerank=RerankShape(middle=(END,), tail=(END,)),
            ),
            adapters=frozenset(each.id for each in load.adapters),
            writes=load.purpose == "chat",
        )
        self.n_ctx = self.model.n_ctx
        self.apart: Pool | None = None
        self.tuning = load.tuning or Tuning(flash_attn=False, n_threads=1, n_threads_batch=1)
        self.trials: tuple[Trial, ...] = () if load.tuning else (Trial(self.tuning, 1000.0, 100.0, 500.0),)
        self.setup = Setup(n_ctx=self.model.n_ctx, n_batch=32, n_threads=1, flash_attn=False)
        self._load = load
        self.cells: dict[int, list[int]] = {}
        self.physical: dict[int, list[int]] = {}  # names of the real cells behind each sequence
        self.num_computed = 0
        self.num_restored = 0
        self._num_named = 0
        self.adapter = ""  # that computes
        self.num_changes = 0  # of adapters
        self.change_us = 0
        self._under: dict[int, str] = {}  # real cells, by the adapter that computed them
        self.rows: dict[int, list[int]] = {}  # row → what the sequence held up to there
        self.num_samplers = 0
        self.fail_next_decode = False

    def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
        del add_bos
        if "please break the tokenizer" in text:
            raise MemoryError
        if not parse_special:
            return list(text.encode())
        tokens: list[int] = []
        position = 0
        for match in _CONTROL_PATTERN.finditer(text):
            tokens += [*text[position : match.start()].encode(), _CONTROLS[match[0]]]
            position = match.end()
        return tokens + list(text[position:].encode())

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        tokens = self.tokenize(text, parse_special=parse_special, add_bos=False)
        return [*tokens, END] if add_special else tokens

    def spell(self, token: int) -> bytes:
        return _SPELT.get(token) or self.piece(token)

    def new_embedder(self) -> FakeEmbedder:
        return FakeEmbedder(self._load.embedding_n_batch)

    def piece(self, token: int) -> bytes:
        return b" word" if token == WORD else bytes([token]) if token < WORD else b""

    def is_end(self, token: int) -> bool:
        return token == END

    def vocabulary(self) -> tuple[list[bytes], list[int]]:
        return [self.piece(token) for token in range(self.model.n_vocab)], [END]

    def control_texts(self) -> Sequence[str]:
        return sorted(_CONTROLS, key=len, reverse=True)

    def use(self, adapter: str) -> None:
        if adapter and adapter not in self.model.adapters:
            raise RuntimeError("an adapter that was not loaded")
        self.num_changes += adapter != self.adapter
        self.adapter = adapter

    def decode(self, batch: Sequence[BatchItem]) -> DecodeStatus:
        if self.fail_next_decode or self.num_cells + len(batch) > self.model.n_ctx:
            self.fail_next_decode = False
            return DecodeStatus.NO_ROOM
        self.rows = {}
        for row, item in enumerate(batch):
            if item.seq_id >= self.model.n_seq_max:
                raise RuntimeError("an id that can not be decoded")
            cells = self.cells.setdefault(item.seq_id, [])
            if item.position != len(cells):
                raise RuntimeError("positions must go on where the sequence ends")
            if any(self._under[cell] != self.adapter for cell in self.physical.get(item.seq_id, [])):
                raise RuntimeError("cells that were computed under another adapter")
            cells.append(item.token)
            self.num_computed += 1
            self.physical.setdefault(item.seq_id, []).append(self._new_cell(self.adapter))
            if item.wants_logits:
                self.rows[row] = list(cells)
        running = [bytes_of(cells) for seq_id, cells in self.cells.items() if seq_id < self.model.n_seq_max]
        while any(b"please hang" in each for each in running):
            time.sleep(1)
        if any(b"please be slow" in each for each in running):
            time.sleep(0.05)
        return DecodeStatus.OK

    def new_sampler(self, sampling: Sampling) -> FakeSampler:
        self.num_samplers += 1
        return FakeSampler(self, sampling)

    def open_lane(self, setup: Setup, adapter: str) -> FakeBackend:
        if setup.n_ctx > 10 * self._load.n_ctx:
            raise MemoryError("no memory for so many cells")
        lane = FakeBackend(msgspec.structs.replace(self._load, n_seq_max=1), n_cells=setup.n_ctx)
        lane.use(adapter)
        return lane

    def digest(self, row: int) -> bytes:
        return hashlib.sha256(repr(self.rows[row]).encode()).digest()[:DIGEST_BYTES]

    def copy(self, source: int, target: int, length: int) -> None:
        if length > len(self.cells[source]) or self.cells.get(target):
            raise RuntimeError("a copy of more than there is, or onto something")
        self.cells[target] = self.cells[source][:length]
        self.physical[target] = self.physical[source][:length]

    def remove(self, seq_id: int, begin: int = 0) -> None:
        if begin:
            del self.cells[seq_id][begin:], self.physical[seq_id][begin:]
            return
        self.cells.pop(seq_id, None)
        self.physical.pop(seq_id, None)

    def save(self, seq_id: int) -> npt.NDArray[np.uint8]:
        if seq_id > self.model.n_seq_max:
            raise RuntimeError("only what can be decoded can be saved")
        under = sorted(self.model.adapters | {""}).index(self._under[self.physical[seq_id][0]])
        return np.array([under, *self.cells[seq_id]], np.int32).view(np.uint8)

    def restore(self, seq_id: int, data: npt.NDArray[np.uint8]) -> bool:
        under, *tokens = (int(token) for token in data.view(np.int32))
        if self.cells.get(seq_id):
            raise RuntimeError("a restore onto something")
        if self.num_cells + len(tokens) > self.model.n_ctx:
            return False
        self.cells[seq_id] = tokens
        adapter = sorted(self.model.adapters | {""})[under]
        self.physical[seq_id] = [self._new_cell(adapter) for _ in tokens]
        self.num_restored += len(tokens)
        return True

    def close(self) -> None:
        self.cells.clear()

    def _new_cell(self, adapter: str) -> int:
        self._num_named += 1
        self._under[self._num_named] = adapter
        return self._num_named

    @property
    def num_cells(self) -> int:
        """Distinct cells: shared ones count once."""
        return len({cell for cells in self.physical.values() for cell in cells})


class FakeSampler:
    """Reads the script from the sequence's own cells."""

    def __init__(self, backend: FakeBackend, sampling: Sampling) -> None:
        self._backend = backend
        self._seed = sampling.seed or 0
        self._bias = Bias(sampling.logit_bias)
        self._start: int | None = None  # tokens of the prompt

    def sample(self, row: int) -> int:
        if self._bias:
            return int(np.argmax(self._bias.added_to(self.logits(row))))
        return self._scripted(row)

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        logits = self._noise(row)
        logits[self._scripted(row)] = SCRIPTED
        return logits

    def _noise(self, row: int) -> npt.NDArray[np.float32]:
        """A number in 0..4 for each token, the same for the same seed and the same tokens before it."""
        cells = np.array(self._backend.rows[row], np.int32)
        chance = np.random.default_rng([self._seed, zlib.crc32(cells.tobytes())])
        return (4 * chance.random(self._backend.model.n_vocab)).astype(np.float32)

    def _scripted(self, row: int) -> int:
        cells = self._backend.rows[row]
        if self._start is None:  # nothing is written before the first token is chosen
            self._start = len(cells)
        start = self._start
        written = len(cells) - start
        asked = bytes_of(cells[:start])
        if written >= 2 and b"please crash" in asked:
            os.kill(os.getpid(), signal.SIGKILL)
        if written >= 2 and b"please fail" in asked:
            raise RuntimeError("the library failed")
        script = answer_to(asked, self._seed, self._backend.adapter)
        return script[written] if written < len(script) else END

    def choose(self, row: int, allowed: npt.NDArray[np.bool_] | None) -> int:
        if allowed is None:
            return self.sample(row)
        logits = self._bias.added_to(self.logits(row))
        num_written = len(self._backend.rows[row]) - (self._start or 0)
        logits[ENDING] += 2 + num_written / 40
        logits[CLOSING] += 1
        return int(np.argmax(np.where(allowed, logits, -np.inf)))

    def accept(self, token: int) -> None:
        """The script knows what it said."""

    def close(self) -> None:
        self._backend.num_samplers -= 1


def bytes_of(tokens: Sequence[int]) -> bytes:
    """The bytes among the tokens; control tokens become line breaks."""
    return bytes(token if token < WORD else 10 for token in tokens)


def answer_to(asked: bytes, seed: int = 0, adapter: str = "") -> list[int]:
    """The tokens of the scripted answer to the last turn."""
    last = asked.rstrip(b"\n").rsplit(b"\n", 1)[-1]
    if b"echo: " in last:
        return list(last.split(b"echo: ", 1)[1].replace("␤".encode(), b"\n"))
    if match := re.search(rb"say ([0-9]+) tokens", last):
        return [WORD] * int(match[1])
    if match := re.search(rb"roll ([0-9]+) dice", last):
        return [*random.Random(seed).choices(b"123456", k=int(match[1]))]
    if b"which adapter" in last:
        return list((adapter or "none").encode())
    return list(CLERK.get(last.strip(), "ok").encode())
