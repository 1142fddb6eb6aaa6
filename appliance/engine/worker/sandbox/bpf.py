"""A list of rules about system calls → the program that the kernel runs at each of them (classic BPF).

The program is a plain list: the architecture, then for each call its number, its conditions and what
happens, and at the end what happens to all others. It reads the call's number and arguments and nothing
else (seccomp(2)); calls whose rule has no condition cost nothing, because the kernel remembers them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.engine.worker.sandbox.numbers import NUMBERS

ALLOW: Final = 0x7FFF_0000
KILL: Final = 0x8000_0000  # the whole process, as by SIGSYS; nothing of it can catch that
_ERRNO = 0x0005_0000
_X86_64 = 0xC000_003E
_X32 = 0x4000_0000  # numbers from here on are another table's
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_MASK = 0xFFFF_FFFF
MAX_INSTRUCTIONS: Final = 4096


def refuse(number: int) -> int:
    """What happens: the call fails with this errno, and nothing else."""
    return _ERRNO | number


@dataclass(frozen=True, slots=True)
class Argument:
    """A condition: of the argument at `place`, the bits in `mask` are those of `value`."""

    place: int
    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Case:
    """What happens where all conditions hold."""

    conditions: Sequence[Argument]
    action: int


Rule = int | Sequence[Case]  # an action, or cases of which the first that holds decides; none: the default


def assemble(rules: Mapping[str, Rule], default: int) -> bytes:
    """The program. Anything of another architecture is KILL. ValueError where it would be too long."""
    program = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, _X86_64, 1, 0),
        _step(_RETURN, KILL),
        _step(_LOAD, _NUMBER_AT),
        _step(_AT_LEAST, _X32, 0, 1),
        _step(_RETURN, KILL),
    ]
    for name, rule in rules.items():
        block = _block(rule, default)
        program += [_step(_EQUAL, NUMBERS[name], 0, len(block)), *block]
    program.append(_step(_RETURN, default))
    if len(program) > MAX_INSTRUCTIONS:
        raise ValueError("too many rules")
    return b"".join(program)


def _block(rule: Rule, default: int) -> list[bytes]:
    if isinstance(rule, int):
        return [_step(_RETURN, rule)]
    block: list[bytes] = []
    for case in rule:
        checks: list[bytes] = []
        # From the end: each check that fails jumps over what is behind it.
        for each in reversed(case.conditions):
            for half in (1, 0):  # the high and the low word, little-endian
                mask, value = (number >> (32 * half) & _MASK for number in (each.mask, each.value))
                if mask:
                    checks = [
                        _step(_LOAD, _ARGUMENTS_AT + 8 * each.place + 4 * half),
                        _step(_AND, mask),
                        _step(_EQUAL, value, 0, len(checks) + 1),
                        *checks,
                    ]
        block += [*checks, _step(_RETURN, case.action)]
    return [*block, _step(_RETURN, default)]


def _step(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    """One instruction (struct sock_filter). struct.error where a jump is too far."""
    return struct.pack("<HBBI", code, jump_true, jump_false, value)
