"""How this model computes best on this machine: measured, not guessed.

Which attention kernel is quicker depends on the processor (without flash attention: 1.3 times quicker
on one, 1.8 times slower on another) and on who is there, and one thread too many costs three times the
time where the gateway wants a core. So a few candidates do the same small pieces of work in turns:
they read a prompt, write one answer, serve a room that shares its prompt, and one that shares nothing,
beside a thread that keeps a core as busy as a gateway does. `contest` decides.
The quantization of the cells is no candidate: it would change answers, which is an operator's
decision; the layout is none either: sharing prefixes needs the unified one.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from appliance.clock import SystemClock
from appliance.engine.messages import Trial, Tuning
from appliance.engine.worker.backend import MAX_SEQUENCE_IDS, BatchItem
from appliance.engine.worker.contest import Candidate, Piece, Round, Took, choose, is_decided, still_in
from appliance.engine.worker.llama.context import Context, ContextShape
from appliance.engine.worker.llama.model import LoadedModel

STREAMS = 8
_QUICK_SECONDS, _THOROUGH_SECONDS = 6.0, 30.0
_MIN_ROUNDS = 3
_WARM_TOKENS = 16
# Of a machine that is quick enough: the shared prompt, what each stranger has of its own, a piece of
# prompt that is read at once, and the steps of a piece.
_PROMPT, _OWN, _READ, _STEPS = 640, 160, 64, 4
_MIN_PROMPT, _MIN_READ, _MIN_STEPS = 32, 16, 2
# Cells of others in the pool: of a room's answers, and of strangers with long prompts.
_ROOM_CELLS, _STRANGERS_CELLS = 320, 2048
_ARRIVING = 16  # tokens of a question, beside eight answers
_ROUND_TOKENS = 200  # that one candidate computes in a round, about
_PATIENCE = 4.0  # times what a piece should take: then the rest of it is reckoned
# A gateway's share of a core while answers stream: some hundred microseconds of work for each step.
_BURDEN_BYTES, _IDLE_SECONDS = 512 * 1024, 0.008
_LEAST_CELLS = _PROMPT + STREAMS * _OWN + _ROOM_CELLS + 2 * _READ
_BESIDE = "gateway beside"
_NEWCOMER = STREAMS + 1  # id; 0 is the shared prompt's
_FIRST_TAG = STREAMS + 2  # ids from here on keep cells and are never decoded


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How much is computed; `token_seconds` is what a token of a small batch takes, about."""

    prompt: int
    own: int
    read: int
    steps: int
    token_seconds: float


def measure(
    model: LoadedModel,
    cores: int,
    *,
    n_ctx: int,
    on_host: bool,
    thorough: bool,
    n_threads: int,
    n_threads_batch: int,
) -> tuple[Tuning, tuple[Trial, ...]]:
    """The best tuning, and every candidate's figures. Threads other than 0 are given, not measured."""
    clock = SystemClock()
    counts = thread_candidates(cores)
    seconds = _THOROUGH_SECONDS if thorough else _QUICK_SECONDS
    # Both contexts stand at the same time, in the memory that the pools will have.
    beside = max(0, min(_STRANGERS_CELLS, n_ctx // 2 - _LEAST_CELLS))
    tables = {
        flash: _Table(model, flash_attn=flash, on_host=on_host, strangers_cells=beside)
        for flash in (False, True)
    }
    try:
        per_token = max(each.warm_up(counts[0]) for each in tables.values())
        sizes = _affordable(per_token, seconds, 2 * len(counts))
        for table in tables.values():
            table.lay(sizes, counts[-1])
        candidates = [Candidate(flash, count) for count in counts for flash in tables]
        rounds: list[Round] = []
        began_us = clock.monotonic_us()
        with _gateway_beside():
            while len(rounds) < _MIN_ROUNDS or (
                clock.monotonic_us() - began_us < seconds * 1e6
                and (thorough or not is_decided(rounds, candidates))
            ):
                rounds.append(
                    {
                        (piece, each): tables[each.flash_attn].took(piece, each.threads)
                        for piece in Piece
                        for each in still_in(rounds, piece, candidates)
                    }
                )
        trials = tuple(_trial(rounds, each, sizes) for each in candidates)
    finally:
        for table in tables.values():
            table.close()
    return choose(rounds, n_threads, n_threads_batch), trials


def thread_candidates(cores: int) -> list[int]:
    """Thread counts worth a trial: a few, up to all cores."""
    return sorted({max(1, cores // 4), max(1, cores // 2), max(1, cores - 1), cores})


class _Table:
    """One kernel's context, and the pieces of work on it. Each leaves it as it was."""

    def __init__(self, model: LoadedModel, *, flash_attn: bool, on_host: bool, strangers_cells: int) -> None:
        self._on_host = on_host
        self._strangers_cells = strangers_cells
        self._context = Context(
            model,
            ContextShape(
                n_ctx=_LEAST_CELLS + strangers_cells,
                n_seq_max=STREAMS + 2,
                n_batch=_READ,
                n_outputs_max=STREAMS + 2,
                n_threads=1,
                n_threads_batch=1,
                kv_unified=True,
                flash_attn=flash_attn,
            ),
        )
        self._sizes = _Sizes(0, 0, 0, 0, 0.0)
        self._first_free = _FIRST_TAG
        self._work: dict[Piece, Callable[[], Took]] = {
            Piece.READ: self._read,
            Piece.ALONE: self._alone,
            Piece.ROOM: self._room,
            Piece.STRANGERS: self._strangers,
        }

    def warm_up(self, threads: int) -> float:
        """Seconds of a processor that a token takes in a small batch.

        The first batch of a context also reserves its buffers.
        """
        self._context.set_threads(threads, threads)
        took = 0.0
        for _ in range(2):
            took = self._timed([_prompt(0, 0, _WARM_TOKENS)]).cpu
            self._context.remove(0)
        return took / _WARM_TOKENS

    def lay(self, sizes: _Sizes, threads: int) -> None:
        """Read the shared prompt, and keep the beginning of it as what each stranger has."""
        self._sizes = sizes
        self._context.set_threads(threads, threads)
        for begin in range(0, sizes.prompt, _READ):
            self._context.decode([*_prompt(0, begin, min(begin + _READ, sizes.prompt))])
            if begin < sizes.own <= begin + _READ:
                self._context.copy(0, _NEWCOMER, sizes.own)
                self._own = self._context.save(_NEWCOMER)
                self._context.remove(_NEWCOMER)

    def took(self, piece: Piece, threads: int) -> Took:
        """What the piece takes with so many threads."""
        self._context.set_threads(threads, threads)
        try:
            return self._work[piece]()
        finally:
            for seq_id in range(1, self._first_free):
                self._context.remove(seq_id)
            self._first_free = _FIRST_TAG

    def close(self) -> None:
        self._context.close()

    def _read(self) -> Took:
        sizes = self._sizes
        begin = sizes.prompt - sizes.read
        self._context.copy(0, _NEWCOMER, begin)
        return self._timed([_prompt(_NEWCOMER, begin, sizes.prompt)])

    def _alone(self) -> Took:
        sizes = self._sizes
        self._context.copy(0, 1, sizes.prompt)
        return self._timed(
            [[BatchItem(at, sizes.prompt + at, 1, wants_logits=True)] for at in range(sizes.steps)]
        )

    def _room(self) -> Took:
        """Answers on the shared prompt; in every other step a question on it is read."""
        sizes = self._sizes
        self._fill(_ROOM_CELLS)
        for seq_id in range(1, STREAMS + 2):
            self._context.copy(0, seq_id, sizes.prompt)
        batches = [_answers(sizes.prompt + step) for step in range(sizes.steps)]
        for number, batch in enumerate(batches[1::2]):
            begin = sizes.prompt + number * _ARRIVING
            batch += [
                BatchItem(at, at, _NEWCOMER, wants_logits=False) for at in range(begin, begin + _ARRIVING)
            ]
        return self._timed(batches)

    def _strangers(self) -> Took:
        """Answers that share nothing; beside one of them a prompt is read."""
        sizes = self._sizes
        for seq_id in range(1, STREAMS + 1):
            self._context.restore(seq_id, self._own)
        self._fill(self._strangers_cells)
        arriving = sizes.read - STREAMS
        beside = [BatchItem(at, at, _NEWCOMER, wants_logits=False) for at in range(arriving)]
        return self._timed([_answers(sizes.own), _answers(sizes.own + 1) + beside])

    def _fill(self, num_cells: int) -> None:
        """So many cells that nobody who is there looks at: copies, which cost no computing."""
        own = self._sizes.own
        for tag in range(self._first_free, min(MAX_SEQUENCE_IDS, self._first_free + num_cells // own)):
            if not self._context.restore(_NEWCOMER, self._own):
                return
            self._context.copy(_NEWCOMER, tag, own)
            self._context.remove(_NEWCOMER)
            self._first_free = tag + 1

    def _timed(self, batches: Sequence[list[BatchItem]]) -> Took:
        """All of them; the rest is reckoned, where the first ones take far too long already."""
        clock, sizes = SystemClock(), self._sizes
        num_tokens, num_done = sum(map(len, batches)), 0
        patience_us = _PATIENCE * 1e6 * sizes.token_seconds * num_tokens
        waited, cpu, began_us = _waited_seconds(), time.thread_time(), clock.monotonic_us()
        for batch in batches:
            num_done += len(batch)
            self._context.decode(batch)
            # Waits for a device, too.
            self._context.logits(next(row for row, item in enumerate(batch) if item.wants_logits))
            took_us = max(1, clock.monotonic_us() - began_us)
            if 0 < patience_us < took_us:
                break
        cpu, waited = time.thread_time() - cpu, _waited_seconds() - waited
        whole = num_tokens / num_done
        seconds = took_us / 1e6
        return Took(seconds * whole, (cpu if self._on_host else seconds) * whole, waited * whole)


def _waited_seconds() -> float:
    """That threads of this process were ready to run, and others ran: the second of three numbers.

    The gateway beside waits, too; that is its own affair.
    """
    waited = 0
    beside = {str(each.native_id) for each in threading.enumerate() if each.name == _BESIDE}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        if path.parent.name in beside:
            continue
        with contextlib.suppress(OSError):  # a thread that has just ended
            waited += int(path.read_text(encoding="ascii").split()[1])
    return waited / 1e9


def _affordable(token_seconds: float, seconds: float, num_candidates: int) -> _Sizes:
    """So much that the rounds keep to their time, where the machine is not far too slow for that."""
    laid = min(1.0, seconds / 3 / (2 * _PROMPT * token_seconds))
    prompt = max(_MIN_PROMPT, int(_PROMPT * laid))
    share = min(1.0, seconds / _MIN_ROUNDS / (num_candidates * _ROUND_TOKENS * token_seconds))
    return _Sizes(
        prompt=prompt,
        own=min(_OWN, prompt // 2),
        read=max(_MIN_READ, int(_READ * share)),
        steps=max(_MIN_STEPS, int(_STEPS * share)),
        token_seconds=token_seconds,
    )


def _prompt(seq_id: int, begin: int, end: int) -> list[BatchItem]:
    return [BatchItem(at, at, seq_id, wants_logits=at == end - 1) for at in range(begin, end)]


def _answers(position: int) -> list[BatchItem]:
    return [BatchItem(seq_id, position, seq_id, wants_logits=True) for seq_id in range(1, STREAMS + 1)]


def _trial(rounds: Sequence[Round], candidate: Candidate, sizes: _Sizes) -> Trial:
    """Tokens per second, of the middle round."""

    def rate(piece: Piece, num_tokens: int) -> float:
        return num_tokens / median(
            each[piece, candidate].seconds for each in rounds if (piece, candidate) in each
        )

    return Trial(
        Tuning(candidate.flash_attn, candidate.threads, candidate.threads),
        prefill=rate(Piece.READ, sizes.read),
        decode_1=rate(Piece.ALONE, sizes.steps),
        room=rate(Piece.ROOM, sizes.steps * STREAMS + sizes.steps // 2 * _ARRIVING),
        apart=rate(Piece.STRANGERS, STREAMS + sizes.read),
    )


@contextmanager
def _gateway_beside() -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        burden = b"x" * _BURDEN_BYTES
        while not over.wait(_IDLE_SECONDS):
            hashlib.sha256(burden).digest()  # without the interpreter's lock, as another process would

    thread = threading.Thread(target=work, name=_BESIDE, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
