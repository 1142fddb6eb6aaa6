"""The sandbox's programs, run here as the kernel would run them, and what a worker may read."""

from __future__ import annotations

import ctypes
import errno
import mmap
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.engine.messages import LoadModel
from appliance.engine.worker.sandbox import bpf, files, filters, kernel, stages
from appliance.engine.worker.sandbox.bpf import ALLOW, KILL, Argument, Case
from appliance.engine.worker.sandbox.numbers import NUMBERS
from appliance.engine.worker.sandbox.stages import Sandbox, SandboxError
from tests.needed import missing

X86_64, I386 = 0xC000003E, 0x40000003
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
LOAD = LoadModel("m", "", 4096, 2, 64, 1, 1, 0, 4, 150_000, 0)
PID = 4711
EACCES, ENOSYS, EPERM = (bpf.refuse(each) for each in (errno.EACCES, errno.ENOSYS, errno.EPERM))


def outcome(program: bytes, number: int | str, *arguments: int, architecture: int = X86_64) -> int:
    """What the kernel does with a call: the machine of seccomp(2), as far as these programs use it."""
    called = NUMBERS[number] if isinstance(number, str) else number
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<iIQ6Q", called, architecture, 0, *padded)
    steps = list(struct.iter_unpack("<HBBI", program))
    value = at = 0
    while True:
        code, jump_true, jump_false, constant = steps[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("<I", data, constant)
            case 0x54:
                value &= constant
            case 0x15:
                at += jump_true if value == constant else jump_false
            case 0x35:
                at += jump_true if value >= constant else jump_false
            case 0x06:
                return int(constant)


def test_numbers_are_the_kernels() -> None:
    """Where this machine has the kernel's headers they say the same."""
    if not HEADER.exists():
        missing("no kernel headers")
    theirs = {
        name: int(number)
        for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", HEADER.read_text(encoding="ascii"))
    }
    assert {name: theirs[name] for name in NUMBERS} == dict(NUMBERS)


def test_conditions_are_of_all_64_bits() -> None:
    """A condition looks at the high word, too, and a call whose cases all fail has the default."""
    wide = (1 << 40) | 3
    program = bpf.assemble(
        {
            "read": ALLOW,
            "write": [Case((Argument(0, (1 << 64) - 1, wide), Argument(2, 1, 1)), ALLOW)],
            "close": [Case((Argument(0, 1, 1),), EPERM), Case((), ALLOW)],
        },
        KILL,
    )
    assert outcome(program, "read") == ALLOW
    assert outcome(program, "write", wide, 0, 5) == ALLOW
    assert outcome(program, "write", wide, 0, 4) == KILL
    assert outcome(program, "write", 3, 0, 5) == KILL
    assert [outcome(program, "close", each) for each in (0, 1)] == [ALLOW, EPERM]
    assert outcome(program, "open") == KILL


@pytest.mark.parametrize(
    "program",
    [
        filters.loading(on_gpu=False),
        filters.loading(on_gpu=True),
        filters.serving(PID),
        filters.serving_on_gpu(),
    ],
)
def test_other_tables_of_calls_end_the_process(program: bytes) -> None:
    """Calls of 32 bits, and x32's, would mean something else under the same number."""
    assert outcome(program, "read", architecture=I386) == KILL
    assert outcome(program, 0x4000_0000 | NUMBERS["read"]) == KILL
    assert len(program) // 8 < bpf.MAX_INSTRUCTIONS


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - set(filters._SERVING)))
def test_sealed_worker_opens_starts_and_calls_nothing(name: str) -> None:
    """Whatever is not on the list ends it, also with arguments of nothing but zeros or ones."""
    asks = {*filters._ASKING, "newfstatat", "statx"}
    limited = {"clone", "mmap", "mprotect", "pkey_mprotect", "prctl", "fcntl", "ioctl", "prlimit64"}
    found = {outcome(filters.serving(PID), name, *arguments) for arguments in ((0,) * 6, (2**64 - 1,) * 6)}
    if name in asks:
        assert found <= {EACCES, ALLOW}
    elif name == "clone3":
        assert found == {ENOSYS}
    elif name in limited:
        assert KILL in found
    else:
        assert found == {KILL}


def test_sealed_worker_has_threads_memory_and_itself() -> None:
    """Threads but no processes, memory but no code in it, signals to itself alone."""
    program = filters.serving(PID)
    thread = 0x3D0F00  # what the C library asks for
    assert outcome(program, "clone", thread) == ALLOW
    assert outcome(program, "clone", 0x01200011) == KILL  # fork
    assert outcome(program, "clone", thread | 0x10000000) == KILL  # a user namespace
    assert outcome(program, "mmap", 0, 4096, mmap.PROT_READ | mmap.PROT_WRITE) == ALLOW
    assert outcome(program, "mmap", 0, 4096, mmap.PROT_READ | mmap.PROT_EXEC) == KILL
    assert outcome(program, "mprotect", 0, 4096, mmap.PROT_EXEC) == KILL
    assert [outcome(program, "tgkill", each, each, 6) for each in (PID, 1)] == [ALLOW, KILL]
    assert outcome(program, "fcntl", 0, 8, PID) == KILL  # whom a file's signals are for
    assert outcome(program, "newfstatat", 3, 0, 0, 0x1000) == ALLOW
    assert outcome(program, "newfstatat", 3, 0, 0, 0) == EACCES
    assert outcome(program, "prlimit64", 0, 0, 0) == ALLOW
    assert outcome(program, "prlimit64", 0, 0, 1) == KILL
    assert outcome(filters.serving(PID, limits_cpu=True), "prlimit64", 0, 0, 1) == ALLOW
    assert outcome(filters.serving(PID, limits_cpu=True), "prlimit64", 0, 4, 1) == KILL


def test_loading_worker_may_read_and_fork_and_no_more() -> None:
    """Before the seal what no model needs ends it already; a GPU's driver is refused instead."""
    plain, gpu = filters.loading(on_gpu=False), filters.loading(on_gpu=True)
    assert [outcome(plain, each) for each in ("openat", "read", "mmap", "fork")] == [ALLOW] * 4
    for name in ("socket", "connect", "execve", "io_uring_setup", "ptrace", "bpf", "unshare", "keyctl"):
        assert outcome(plain, name) == KILL
    assert (outcome(plain, "memfd_create"), outcome(plain, "memfd_secret")) == (ALLOW, KILL)
    assert outcome(filters.serving(PID), "memfd_create") == KILL
    assert [outcome(gpu, each) for each in ("socket", "execve")] == [EPERM, EPERM]
    assert [outcome(gpu, each) for each in ("ptrace", "bpf", "io_uring_setup")] == [KILL] * 3
    assert outcome(filters.serving_on_gpu(), "ioctl") == ALLOW
    assert [outcome(filters.serving_on_gpu(), each) for each in ("execve", "fork", "socket")] == [KILL] * 3


def test_own_code_is_no_folder_that_holds_a_home() -> None:
    """A checkout is on Python's path, and its development home lies in it."""
    checkout = Path(files.__file__).resolve().parents[4]
    assert (checkout / "pyproject.toml").exists()
    assert checkout not in files.own_code()
    assert checkout / "appliance" in files.own_code()


@pytest.mark.parametrize(
    ("missing", "words"), [("landlock_abi", "no Landlock"), ("has_seccomp", "no seccomp")]
)
def test_missing_layer_is_told_or_refused(missing: str, words: str) -> None:
    """Where a layer is required a model is not loaded without it; else the layers that hold are named."""
    program = (
        "import sys\n"
        "from appliance.engine.worker.sandbox import kernel, Sandbox\n"
        "from tests.unit.engine.test_sandbox import LOAD\n"
        "import msgspec\n"
        f"kernel.{missing} = lambda: 0\n"
        "sandbox = Sandbox()\n"
        "sandbox.harden(set())\n"
        "sandbox.enter(msgspec.structs.replace(LOAD, sandbox=sys.argv[1]))\n"
        "print(*sandbox.seal())\n"
    )
    results = {
        wanted: subprocess.run(
            [sys.executable, "-c", program, wanted], capture_output=True, text=True, check=False, timeout=60
        )
        for wanted in ("required", "available")
    }
    assert (
        f"SandboxError: engine.sandbox is 'required' and this host has {words}" in results["required"].stderr
    )
    held = results["available"].stdout.split()
    assert held[:2] == [stages.LIMITS, stages.PRIVILEGES]
    assert (stages.SECCOMP in held) == (missing != "has_seccomp")
    assert any(each.startswith(stages.LANDLOCK) for each in held) == (missing != "landlock_abi")


def test_thread_that_runs_already_is_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Landlock is put around one thread: a second one would stay outside of it."""
    monkeypatch.setattr(Path, "iterdir", lambda _self: iter(("1", "2")))
    with pytest.raises(SandboxError, match="threads run"):
        Sandbox()._landlock(7, LOAD)


def test_landlocked_process_reads_its_list_and_no_more(tmp_path: Path) -> None:
    """What is readable is read and not written; its neighbour is not even read."""
    if not kernel.landlock_abi():
        missing("this kernel has no Landlock")
    (tmp_path / "model").write_text("weights")
    (tmp_path / "key").write_text("secret")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from appliance import unseen\n"
        "from appliance.engine.worker.sandbox import files, kernel\n"
        "unseen.gain_nothing()\n"
        "model, key = map(Path, sys.argv[1:])\n"
        "files.confine(kernel.landlock_abi(), readable=[model], on_gpu=False)\n"
        "print(model.read_text())\n"
        "for act in (lambda: key.read_text(), lambda: model.write_text('x'), lambda: key.unlink()):\n"
        "    try:\n"
        "        print(act())\n"
        "    except PermissionError:\n"
        "        print('denied')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "model", tmp_path / "key"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["weights", "denied", "denied", "denied"]


CALLED_BACK = """
import ctypes, os, resource
from appliance.engine.messages import LoadModel
from appliance.engine.worker.sandbox.stages import Sandbox
from tests.needed import missing
refuses = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0  # PR_SET_MDWE: none that is written and executed
try:
    import mmap
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    refuses = False
except PermissionError:
    pass
sandbox = Sandbox()
sandbox.harden({0, 1, 2})
sandbox.enter(LoadModel("m", "", 4096, 2, 64, 1, 1, 0, 4, 150_000, 0))
call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number + 1)
told = refuses, call(41), resource.getrlimit(resource.RLIMIT_FSIZE)
sandbox.seal()
os.write(1, repr((*told, call(1), resource.getrlimit(resource.RLIMIT_FSIZE))).encode())
os._exit(0)
"""


def test_callbacks_work_where_no_memory_is_written_and_executed() -> None:
    """As under the worker's unit: the library's log has a callback, which is made while it is loaded."""
    if not kernel.has_seccomp():
        missing("this machine has no seccomp for it")
    done = subprocess.run(
        [sys.executable, "-c", CALLED_BACK], capture_output=True, check=False, text=True, timeout=60
    )
    if done.stdout.startswith("(False"):
        pytest.skip("this kernel does not refuse such memory (Linux 6.3)")

    assert (done.returncode, done.stdout) == (0, "(True, 42, (1048576, 1048576), 2, (0, 0))"), done.stderr


def test_refused_filter_is_an_error() -> None:
    """A program that the kernel does not take is never taken for one that holds."""
    with pytest.raises(OSError, match="seccomp"):
        kernel.filter_calls(struct.pack("<HBBI", 0xFFFF, 0, 0, 0))
    assert ctypes.get_errno() in {errno.EINVAL, errno.EACCES}
