"""Each grammar is compiled for the first time in a process that may die of it.

`python -m appliance.engine.worker.trial`: frames come in on its standard input, one byte goes out for
each grammar: "." where it compiled and its first mask could be computed, else "x". llguidance bounds
most of its work by fuel, but not all of it: a schema is known that computes for minutes and takes
memory all the while, in native code that no thread can be called back from. Here the kernel ends it:
CPU time and address space are limited, and whoever waits hears the end of file.

The vocabulary comes first, so that what is tried is what will be done.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import IO

import msgspec

CPU_SECONDS = 2  # of one grammar, at least; all that answers well takes less than half of one
WALL_SECONDS = 30.0  # behind that, should the process stand still
MEMORY_BYTES = 1 << 30
MAX_DEATHS = 3  # that one tenant may cause in a minute before its grammars are refused untried
_MINUTE = 60.0
_SIZE = struct.Struct("<I")
_GOOD, _BAD = b".", b"x"
_PR_SET_DUMPABLE = 4
_MAX_FRAME = 64 << 20

COMMAND = (sys.executable, "-I", "-m", "appliance.engine.worker.trial")


class TrialError(Exception):
    """This grammar is not to be compiled: it took too much, or could not be tried."""


class Vocabulary(msgspec.Struct, frozen=True, array_like=True):
    """What a tokenizer is made of: the bytes of every token, those that are controls, those that end."""

    tokens: list[bytes]
    special: list[int]
    ends: list[int]


class Trial:
    """The process, started when it is needed. Owner: the thread that compiles."""

    def __init__(
        self, vocabulary: Callable[[], Vocabulary], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._vocabulary = vocabulary
        self._monotonic = monotonic
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths: deque[tuple[float, str]] = deque(maxlen=1000)  # when, and whose grammar it was

    def try_out(self, grammar: str, tenant: str) -> None:
        """TrialError where it may not be compiled here. That it is wrong is no error: it is said later."""
        now = self._monotonic()
        recent = sum(who == tenant and now - when < _MINUTE for when, who in self._deaths)
        if recent >= MAX_DEATHS:
            raise TrialError("too many schemas were too complex just now")
        try:
            process = self._process or self._start()
            answer = self._ask(process, grammar.encode())
        except OSError:  # a broken pipe: it died before it had read all
            answer = b""
        if answer not in (_GOOD, _BAD):
            self._deaths.append((now, tenant))
            self.close()
            raise TrialError("it takes too much time or memory to compile")

    def close(self) -> None:
        """End the process, where there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what it had not read can not be flushed
                        pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # its words could quote a schema
            env={},
        )
        if process.stdin is not None:
            _put(process.stdin, msgspec.msgpack.encode(self._vocabulary()))
        return process

    def _ask(self, process: subprocess.Popen[bytes], grammar: bytes) -> bytes:
        if process.stdin is None or process.stdout is None:
            raise TrialError("it can not be tried")
        _put(process.stdin, grammar)
        ready, _, _ = select.select([process.stdout], [], [], WALL_SECONDS)
        return os.read(process.stdout.fileno(), 1) if ready else b""


def _put(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_SIZE.pack(len(data)) + data)
    pipe.flush()


def _take(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    if size > _MAX_FRAME:
        return None
    return pipe.read(size)


def main() -> int:
    """Serve until the end of file, which is the worker's end."""
    from appliance.engine.worker import grammar  # noqa: PLC0415 - it imports this module

    _harden()
    source, target = sys.stdin.buffer, sys.stdout.buffer
    first = _take(source)
    if first is None:
        return 0
    vocabulary = msgspec.msgpack.decode(first, type=Vocabulary)
    single = {piece: token for token, piece in enumerate(vocabulary.tokens) if len(piece) == 1}

    def tokenize(text: str) -> list[int]:
        """What a grammar forces: how it is cut changes no time worth knowing."""
        pieces = (bytes([byte]) for byte in text.encode())
        return [single[piece] for piece in pieces if piece in single]

    tokenizer = grammar.new_tokenizer(vocabulary, tokenize)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    while (text := _take(source)) is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        target.write(_GOOD if grammar.compiles(tokenizer, text.decode()) else _BAD)
        target.flush()
    return 0


def _harden() -> None:
    """Callers' schemas live in this memory: no core dumps, no debugger of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    sys.exit(main())
