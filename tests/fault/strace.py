"""Run a program under strace, and read what it did to the files of one folder, in order."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.needed import need

ROOT = Path(__file__).resolve().parent.parent.parent
_CALLS = (
    "openat,close,pwrite64,write,pwritev,writev,fdatasync,fsync,sync_file_range,ftruncate,truncate,"
    "fallocate,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,mkdir,dup,dup2,dup3,fcntl,mmap"
)
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$", re.DOTALL)
_RESULT = re.compile(r"^(.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)$", re.DOTALL)
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that came back without an error."""

    name: str
    texts: tuple[bytes, ...]  # its string arguments
    rest: str  # its arguments without the strings' contents
    result: int


def require_strace() -> str:
    """The program, where there is one."""
    return need("strace", package="strace")


def run(arguments: Sequence[str], output: Path, *, expect: int = 0, options: Sequence[str] = ()) -> str:
    """Run `python -m tests.fault.traced ...` under strace; its output. AssertionError on another exit."""
    done = subprocess.run(
        [
            *(require_strace(), "-f", "-qq", "--seccomp-bpf", "-o", str(output), *options),
            *(sys.executable, "-m", *arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == expect, f"{done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def trace(arguments: Sequence[str], output: Path) -> list[Call]:
    """Every call of the kinds that change files, in the order of completion; writes at their begin."""
    run(arguments, output, options=["-xx", "-s", "4194304", "-e", f"trace={_CALLS}"])
    return list(_calls(output))


def _calls(output: Path) -> Iterator[Call]:
    begun: dict[str, str] = {}
    with output.open(encoding="ascii") as lines:
        for line in lines:
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                continue  # a signal, an exit
            pid, resumed, name, rest = found.groups()
            if rest.endswith(_UNFINISHED):
                begun[pid] = rest.removesuffix(_UNFINISHED)
                if name == "write":  # an acknowledgement is out when it begins
                    yield _call(name, begun[pid], _size_of(begun[pid]))
                continue
            if resumed:
                rest = begun.pop(pid) + rest
                if resumed == "write":
                    continue
            ended = _RESULT.match(rest)
            if ended is None or ended[2].startswith(("-", "?")):
                continue  # an error: nothing has changed
            yield _call(resumed or name, ended[1], int(ended[2], 0))


def _size_of(arguments: str) -> int:
    return int(arguments.rsplit(", ", 1)[1])


def _call(name: str, arguments: str, result: int) -> Call:
    texts = []
    for text, is_cut in _TEXT.findall(arguments):
        assert not is_cut, "strace cut a string"
        texts.append(bytes.fromhex(text.replace("\\x", "")))
    return Call(name, tuple(texts), _TEXT.sub("S", arguments), result)
