"""`python -m tests.fakes.misbehaving_worker --fd N`: as `fake_worker`, and it does what a prompt tells it to.

`misbehave: ACT PATH` in a question is done on the intake thread, as code that came in with a prompt would do
it; PATH is a home. A worker that lives after that answers as always. With `--unconfined` there is no sandbox:
the control, in which each act must succeed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.engine.messages import LoadModel
from appliance.engine.worker.start import main

if TYPE_CHECKING:
    from tests.fakes.fake_backend import FakeBackend

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_SEIZE = 0x4206
_IO_URING_SETUP, _PIDFD_OPEN, _MEMFD_CREATE = 425, 434, 319
_CLONE_NEWUSER = 0x1000_0000


def _open_tcp(_home: Path) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _ask_gateway(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(home / "control.sock"))


def _read_key(home: Path) -> None:
    (home / "keys" / "log.key").read_bytes()


def _read_passwords(_home: Path) -> None:
    Path("/etc/shadow").read_bytes()


def _write(home: Path) -> None:
    (home / "written").write_bytes(b"x")


def _fork(_home: Path) -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _spawn(_home: Path) -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def _trace_gateway(_home: Path) -> None:
    _checked(_LIBC.ptrace(_PTRACE_SEIZE, os.getppid(), 0, 0))


def _signal_gateway(_home: Path) -> None:
    os.kill(os.getppid(), signal.SIGCONT)


def _read_gateway(_home: Path) -> None:
    os.close(os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY))


def _hold_gateway(_home: Path) -> None:
    os.close(_checked(_LIBC.syscall(_PIDFD_OPEN, os.getppid(), 0)))


def _write_code(_home: Path) -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def _make_ring(_home: Path) -> None:
    os.close(_checked(_LIBC.syscall(_IO_URING_SETUP, 4, ctypes.create_string_buffer(120))))


def _make_file_in_memory(_home: Path) -> None:
    os.close(_checked(_LIBC.syscall(_MEMFD_CREATE, b"x", 0)))


def _dump_cores(_home: Path) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _be_traced(_home: Path) -> None:
    _checked(_LIBC.prctl(4, 1, 0, 0, 0))


def _leave(_home: Path) -> None:
    os.chdir("/")


ACTS: dict[str, Callable[[Path], None]] = {
    each.__name__.removeprefix("_"): each
    for each in (
        *(_open_tcp, _ask_gateway, _read_key, _read_passwords, _write, _fork, _spawn, _trace_gateway),
        *(_signal_gateway, _read_gateway, _hold_gateway, _write_code, _make_ring, _make_file_in_memory),
        *(_dump_cores, _be_traced, _leave),
    )
}


class Unconfined:
    """No sandbox at all."""

    def harden(self, keep: Collection[int]) -> None:
        del keep

    def enter(self, load: LoadModel) -> None:
        del load

    def seal(self, *, on_gpu: bool = False) -> tuple[str, ...]:
        del on_gpu
        return ()

    def seal_trial(self) -> None:
        return


def _checked(done: int) -> int:
    if done < 0:
        raise OSError(ctypes.get_errno(), "the kernel refuses")
    return done


def _misbehaving(load: LoadModel) -> FakeBackend:
    from tests.fakes.fake_backend import FakeBackend  # noqa: PLC0415 - inside the sandbox

    class Misbehaving(FakeBackend):
        """The fake one, led astray by prompts."""

        def tokenize(self, text: str, *, parse_special: bool, add_bos: bool) -> list[int]:
            if found := re.search(r"misbehave: (\w+) (\S+?)(?=<|$)", text):
                ACTS[found[1]](Path(found[2]))
            return super().tokenize(text, parse_special=parse_special, add_bos=add_bos)

    return Misbehaving(load)


if __name__ == "__main__":
    if "--unconfined" in sys.argv:
        sys.argv.remove("--unconfined")
        sys.exit(main(_misbehaving, Unconfined))
    sys.exit(main(_misbehaving))
