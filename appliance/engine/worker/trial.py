"""Each grammar is compiled for the first time in a process that may die of it.

llguidance bounds most of its work by fuel, but not all of it: a schema is known that computes for minutes
and takes memory all the while, in native code that no thread can be called back from. In a process of its
own the kernel ends it. A sealed worker can start none: a keeper, which it forked before anything else,
starts them (keeper.py), and is asked here, over two pipes.
"""

from __future__ import annotations

import os
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

MAX_DEATHS = 3  # that one tenant may cause in a minute before its grammars are refused untried
_MINUTE = 60.0
_SIZE = struct.Struct("<I")
_MAX_FRAME = 64 << 20
# What is answered to a grammar: it compiled and has a first mask, it did not, or its trial was ended.
GOOD: Final = b"."
BAD: Final = b"x"
ENDED: Final = b"!"


class TrialError(Exception):
    """This grammar is not to be compiled: it took too much, or this tenant's did so too often."""


class KeeperGoneError(Exception):
    """Nobody tries grammars any more: a worker without its keeper is none."""


class Vocabulary(msgspec.Struct, frozen=True, array_like=True):
    """What a tokenizer is made of: the bytes of every token, those that are controls, those that end."""

    tokens: list[bytes]
    special: list[int]
    ends: list[int]


class Pipes(msgspec.Struct, frozen=True):
    """The worker's ends of the two ways to its keeper: file descriptors."""

    ask: int
    answer: int


class Trial:
    """Asks the keeper. Owner: the thread that compiles."""

    def __init__(
        self,
        vocabulary: Callable[[], Vocabulary],
        pipes: Pipes,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vocabulary = vocabulary
        self._pipes = pipes
        self._monotonic = monotonic
        self._is_introduced = False  # the keeper has the vocabulary: what is tried is what will be done
        self._deaths: deque[tuple[float, str]] = deque(maxlen=1000)  # when, and whose grammar it was

    def try_out(self, grammar: str, tenant: str) -> None:
        """TrialError where it may not be compiled here. That it is wrong is no error: it is said later.

        KeeperGoneError where it can not be tried at all.
        """
        now = self._monotonic()
        recent = sum(who == tenant and now - when < _MINUTE for when, who in self._deaths)
        if recent >= MAX_DEATHS:
            raise TrialError("too many schemas were too complex just now")
        try:
            answer = self._ask(grammar.encode())
        except OSError as error:
            raise KeeperGoneError from error
        if answer == ENDED:
            self._deaths.append((now, tenant))
            raise TrialError("it takes too much time or memory to compile")
        if answer not in (GOOD, BAD):
            raise KeeperGoneError

    def _ask(self, grammar: bytes) -> bytes:
        if not self._is_introduced:
            put(self._pipes.ask, msgspec.msgpack.encode(self._vocabulary()))
            self._is_introduced = True
        put(self._pipes.ask, grammar)
        return os.read(self._pipes.answer, 1)


def put(pipe: int, data: bytes) -> None:
    """Write a frame. OSError where nobody reads it any more."""
    rest = memoryview(_SIZE.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def take(pipe: int) -> bytes | None:
    """The next frame; None at the end of file."""
    head = _exactly(pipe, _SIZE.size)
    if head is None:
        return None
    (size,) = _SIZE.unpack(head)
    return _exactly(pipe, size) if size <= _MAX_FRAME else None


def _exactly(pipe: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = os.read(pipe, min(size - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)
