"""How this model computes best on this machine: measured, not guessed.

Which attention kernel is quicker depends on the processor (without flash attention: 1.3 times quicker
on one, 1.8 times slower on another), and one thread too many costs three times the time where the
gateway wants a core. So a few candidates compute the same small piece of a kiosk's room: a prompt,
then answers alone and eight at once on top of it, among as many idle cells as the cache may hold,
beside a thread that keeps a core as busy as a
gateway does. The quantization of the cells is no candidate: it would change answers, which is an
operator's decision; the layout is none either: sharing prefixes needs the unified one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from appliance.clock import SystemClock
from appliance.engine.messages import Trial, Tuning
from appliance.engine.worker.backend import MAX_SEQUENCE_IDS, BatchItem
from appliance.engine.worker.llama.context import Context, ContextShape
from appliance.engine.worker.llama.model import LoadedModel

STREAMS = 8
_QUICK_SECONDS, _THOROUGH_SECONDS = 4.0, 30.0
_MIN_PROMPT, _MAX_PROMPT = 16, 640
_MIN_STEPS, _MAX_STEPS = 2, 24
_IDLE_ID, _FIRST_TAG = STREAMS + 1, STREAMS + 2
_READ_TOKENS = 64  # of a prompt at once
_ARRIVING_TOKENS = 16  # of a prompt, beside eight answers
# A gateway's share of a core while answers stream: about a millisecond of work, four of rest.
_BURDEN_BYTES, _IDLE_SECONDS = 1024 * 1024, 0.004
_PREFILL_WEIGHT, _DECODE_1_WEIGHT, _ROOM_WEIGHT = 0.15, 0.2, 0.65
_MIN_GAIN_APART = 1.05  # below it two pools are not worth the cells that they can not lend each other


@dataclass(frozen=True, slots=True)
class _Piece:
    """How much a candidate computes: tokens of prompt, and steps of one and of eight.

    A candidate that turns out to be far slower than it should be is not waited for.
    """

    prompt: int
    steps: int
    seconds: float  # for each of the three


def measure(
    model: LoadedModel,
    cores: int,
    *,
    thorough: bool,
    n_threads: int,
    n_threads_batch: int,
    num_idle_cells: int,
) -> tuple[Tuning, tuple[Trial, ...]]:
    """The best tuning, and every candidate's figures. Threads other than 0 are given, not measured."""
    counts = thread_candidates(cores)
    best: dict[Tuning, Trial] = {}
    # In turns: a slow minute of the machine is slow for every candidate, and each shows its best.
    rounds, seconds = (3, _THOROUGH_SECONDS / 3) if thorough else (1, _QUICK_SECONDS)
    with _gateway_beside():
        for flash_attn in (False, True) * rounds:
            context = _context(model, num_idle_cells, flash_attn=flash_attn)
            try:
                piece = _affordable(context, seconds / 2 / len(counts))
                _fill(context, num_idle_cells)
                for count in counts:
                    trial = _trial(context, piece, flash_attn, count)
                    best[trial.tuning] = _better(trial, best.get(trial.tuning, trial))
            finally:
                context.close()
    trials = list(best.values())
    return choose(trials, n_threads, n_threads_batch), tuple(trials)


def _better(one: Trial, two: Trial) -> Trial:
    return Trial(
        one.tuning, max(one.prefill, two.prefill), max(one.decode_1, two.decode_1), max(one.room, two.room)
    )


def thread_candidates(cores: int) -> list[int]:
    """Thread counts worth a trial: a few, up to all cores."""
    return sorted({max(1, cores // 4), max(1, cores // 2), max(1, cores - 1), cores})


def choose(trials: list[Trial], n_threads: int = 0, n_threads_batch: int = 0) -> Tuning:
    """For each kernel its best threads, then the best kernel, by the weights of a kiosk's room.

    Where that is plain attention, and requests that share nothing are quicker with flash attention,
    they get a pool apart.
    """
    candidates: list[tuple[float, Tuning]] = []
    unshared: dict[bool, float] = {}
    for flash_attn in (False, True):
        mine = [each for each in trials if each.tuning.flash_attn is flash_attn]
        alone = max(mine, key=lambda each: each.decode_1)
        room = max(mine, key=lambda each: each.prefill**_PREFILL_WEIGHT * each.room**_ROOM_WEIGHT)
        score = room.prefill**_PREFILL_WEIGHT * room.room**_ROOM_WEIGHT * alone.decode_1**_DECODE_1_WEIGHT
        tuning = Tuning(
            flash_attn,
            n_threads or alone.tuning.n_threads,
            n_threads_batch or room.tuning.n_threads_batch,
        )
        candidates.append((score, tuning))
        unshared[flash_attn] = (room.prefill * alone.decode_1) ** 0.5
    best = max(candidates, key=lambda each: each[0])[1]
    pays = not best.flash_attn and unshared[True] > _MIN_GAIN_APART * unshared[False]
    return msgspec.structs.replace(best, apart=pays)


def _context(model: LoadedModel, num_idle_cells: int, *, flash_attn: bool) -> Context:
    cells = num_idle_cells + _MAX_PROMPT + (STREAMS + 1) * _MAX_STEPS + _ARRIVING_TOKENS
    return Context(
        model,
        ContextShape(
            n_ctx=cells,
            n_seq_max=STREAMS + 2,  # one for the idle cells
            n_batch=_READ_TOKENS,
            n_outputs_max=STREAMS + 2,
            n_threads=1,
            n_threads_batch=1,
            kv_unified=True,
            flash_attn=flash_attn,
        ),
    )


def _affordable(context: Context, seconds: float) -> _Piece:
    """So much that a candidate keeps to its time, by the time of one small prompt."""
    _prompt(context, _MIN_PROMPT)  # the first batch of a context also reserves its buffers
    context.remove(0)
    per_token = _prompt(context, _MIN_PROMPT) / _MIN_PROMPT
    context.remove(0)
    tokens = seconds / per_token
    return _Piece(
        prompt=int(min(_MAX_PROMPT, max(_MIN_PROMPT, tokens * 0.5))),
        steps=int(min(_MAX_STEPS, max(_MIN_STEPS, tokens * 0.5 / (STREAMS + 1)))),
        seconds=max(seconds, per_token * _MIN_PROMPT * 2),
    )


def _fill(context: Context, num_cells: int) -> None:
    """Idle cells, as cached prefixes are: copies of a small prompt, which cost no computing."""
    _prompt(context, _MIN_PROMPT)
    data = context.save(0)
    context.remove(0)
    for number in range(num_cells // _MIN_PROMPT):
        if not context.restore(_IDLE_ID, data):
            return
        context.copy(_IDLE_ID, _FIRST_TAG + number % (MAX_SEQUENCE_IDS - _FIRST_TAG), _MIN_PROMPT)
        context.remove(_IDLE_ID)


def _trial(context: Context, piece: _Piece, flash_attn: bool, count: int) -> Trial:  # noqa: FBT001
    tuning = Tuning(flash_attn, count, count)
    context.set_threads(count, count)
    prefill = _prompt_rate(context, piece)
    if prefill is None:
        # So slow that not all of the prompt was read: answers will not save this candidate.
        context.remove(0)
        return Trial(tuning, 0.0, 0.0, 0.0)
    for seq_id in range(1, STREAMS + 1):
        context.copy(0, seq_id, piece.prompt)
    alone = _answer_rate(context, piece)
    room = _room_rate(context, piece)
    for seq_id in range(STREAMS + 1):
        context.remove(seq_id)
    return Trial(tuning, prefill, alone, room)


def _prompt(context: Context, size: int) -> float:
    return _timed(context, [BatchItem(at, at, 0, wants_logits=at == size - 1) for at in range(size)])


def _prompt_rate(context: Context, piece: _Piece) -> float | None:
    """Tokens/s of a prompt read in pieces; None where its time ran out."""
    took = 0.0
    for begin in range(0, piece.prompt, _READ_TOKENS):
        end = min(begin + _READ_TOKENS, piece.prompt)
        took += _timed(
            context, [BatchItem(at, at, 0, wants_logits=at == end - 1) for at in range(begin, end)]
        )
        if took > piece.seconds and end < piece.prompt:
            return None
    return piece.prompt / took


def _answer_rate(context: Context, piece: _Piece) -> float:
    """Tokens/s of one answer alone."""
    took = 0.0
    for step in range(piece.steps):
        took += _timed(context, [BatchItem(step, piece.prompt + step, 0, wants_logits=True)])
        if took > piece.seconds:
            return (step + 1) / took
    return piece.steps / took


def _room_rate(context: Context, piece: _Piece) -> float:
    """Tokens/s of a room: eight answers, in every other step beside a question on the same prompt."""
    took, num_tokens = 0.0, 0
    for step in range(piece.steps):
        position = piece.prompt + step
        ids = range(1, STREAMS + 1)
        batch = [BatchItem(step, position, seq_id, wants_logits=True) for seq_id in ids]
        if step % 2:
            context.copy(0, _IDLE_ID, piece.prompt)
            batch += [
                BatchItem(at, piece.prompt + at, _IDLE_ID, wants_logits=False)
                for at in range(_ARRIVING_TOKENS)
            ]
        took += _timed(context, batch)
        num_tokens += len(batch)
        context.remove(_IDLE_ID)
        if took > piece.seconds:
            break
    return num_tokens / took


def _timed(context: Context, batch: list[BatchItem]) -> float:
    began_us = SystemClock().monotonic_us()
    context.decode(batch)
    context.logits(next(row for row, item in enumerate(batch) if item.wants_logits))  # waits for a device
    return max(1, SystemClock().monotonic_us() - began_us) / 1e6


@contextmanager
def _gateway_beside() -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        burden = b"x" * _BURDEN_BYTES
        while not over.wait(_IDLE_SECONDS):
            hashlib.sha256(burden).digest()  # without the interpreter's lock, as another process would

    thread = threading.Thread(target=work, name="gateway beside", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
