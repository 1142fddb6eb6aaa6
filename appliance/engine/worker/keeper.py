"""The keeper: forked by the worker before anything is loaded, and the only one who starts processes later.

It holds no model, no prompt and no connection to the gateway; it is inside the sandbox that the worker
entered, without the seal, because it forks. For each grammar that comes in it answers one byte. The trial
itself is its child, sealed as the worker is, with 2 s of CPU time and 1 GiB, and ended by the kernel or,
should it stand still, by the keeper. Both go when the one above them goes.
"""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

from appliance import unseen
from appliance.engine.worker import trial
from appliance.engine.worker.sandbox import Confinement
from appliance.engine.worker.trial import BAD, ENDED, GOOD, Pipes, Vocabulary

CPU_SECONDS: Final = 2  # of one grammar, at least; all that answers well takes less than half of one
WALL_SECONDS: Final = 30.0  # behind that, should the process stand still
MEMORY_BYTES: Final = 1 << 30
_ABOVE_ALL_FILES = 1 << 20  # the most that a kernel grants without being told otherwise


def fork(sandbox: Confinement) -> Pipes:
    """Start the keeper; the worker's ends. Only while this process has one thread and holds nothing."""
    asked, ask = os.pipe()
    answer, answered = os.pipe()
    if os.fork() == 0:
        _alone_with(asked, answered)
        _end_with(lambda: keep(asked, answered, sandbox))
    os.close(asked)
    os.close(answered)
    return Pipes(ask, answer)


def keep(asked: int, answered: int, sandbox: Confinement) -> None:
    """Answer until the end of file, which is the worker's end."""
    vocabulary = trial.take(asked)
    child: _Child | None = None
    while vocabulary is not None and (grammar := trial.take(asked)) is not None:
        try:
            child = child or _Child(vocabulary, sandbox)
            answer = child.ask(grammar)
        except OSError:  # a broken pipe: it died before it had read all
            answer = ENDED
        if answer == ENDED and child is not None:
            child.end()
            child = None
        os.write(answered, answer)
    if child is not None:
        child.end()


class _Child:
    """The process in which grammars are tried, until one ends it."""

    def __init__(self, vocabulary: bytes, sandbox: Confinement) -> None:
        asked, self._ask = os.pipe()
        self._answer, answered = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _alone_with(asked, answered)
            _end_with(lambda: _try_for_ever(asked, answered, vocabulary, sandbox))
        os.close(asked)
        os.close(answered)

    def ask(self, grammar: bytes) -> bytes:
        """GOOD, BAD, or ENDED where it took too much. OSError where it has died already."""
        trial.put(self._ask, grammar)
        ready, _, _ = select.select([self._answer], [], [], WALL_SECONDS)
        return (os.read(self._answer, 1) if ready else b"") or ENDED

    def end(self) -> None:
        """Kill and reap it."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._ask)
        os.close(self._answer)


def _try_for_ever(asked: int, answered: int, encoded: bytes, sandbox: Confinement) -> None:
    from appliance.engine.worker import grammar  # noqa: PLC0415 - large, and for this process only

    vocabulary = msgspec.msgpack.decode(encoded, type=Vocabulary)
    single = {piece: token for token, piece in enumerate(vocabulary.tokens) if len(piece) == 1}

    def tokenize(text: str) -> list[int]:
        """What a grammar forces: how it is cut changes no time worth knowing."""
        pieces = (bytes([byte]) for byte in text.encode())
        return [single[piece] for piece in pieces if piece in single]

    tokenizer = grammar.new_tokenizer(vocabulary, tokenize)
    grammar.rehearse()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sandbox.seal_trial()
    while (text := trial.take(asked)) is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        os.write(answered, GOOD if grammar.compiles(tokenizer, text.decode()) else BAD)


def _alone_with(*pipes: int) -> None:
    """Nothing of the parent's but these; and no longer than the parent."""
    unseen.prctl(unseen.PR_SET_PDEATHSIG, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)  # its words could quote a schema
    begin = 3
    for each in sorted(pipes):
        os.closerange(begin, each)
        begin = each + 1
    os.closerange(begin, _ABOVE_ALL_FILES)


def _end_with(work: Callable[[], None]) -> NoReturn:
    """The whole rest of a forked process."""
    try:
        work()
    except BaseException:  # the process edge: whoever waits hears the end of file
        os._exit(1)
    os._exit(0)
