"""Which system calls a worker may make: while it loads, and from its first prompt on.

While it loads it needs most of what a program needs, and what no model ever needs ends it (`_NEVER`).
Afterwards the list is closed: what is not on it ends the process. `_SERVING` was measured, with strace over
whole lives (chats, streams, schemas, embeddings, reproducible requests, an abort inside the library), and is
told the smaller part: memory, threads of its own, clocks, and files that are open already. Nothing on it
opens a file, makes a socket or starts a process.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

from appliance.engine.worker.sandbox import bpf
from appliance.engine.worker.sandbox.bpf import ALLOW, KILL, Argument, Case, Rule

_PROT_EXEC = 4
_CLONE_THREAD = 0x0001_0000
_CLONE_NEW = 0x7E02_0080  # namespaces
_AT_EMPTY_PATH = 0x1000
_PR_SET_NAME, _PR_SET_VMA = 15, 0x5356_4D41
_F_DUPFD_CLOEXEC, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL = 1030, 1, 2, 3, 4
_TCGETS, _FIONBIO, _FIOCLEX = 0x5401, 0x5421, 0x5451
_RLIMIT_CPU = 0
_WORD = 0xFFFF_FFFF

# A network, other programs, other processes, the machine. In the order of what they are for.
_NETWORK: Final = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *("msgget", "semget", "shmget", "shmat", "shmctl", "mq_open"),
)
_PROGRAMS: Final = ("execve", "execveat", "vfork")
_PROCESSES: Final = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "tkill"),
    *("pidfd_open", "pidfd_getfd", "pidfd_send_signal"),
)
_MACHINE: Final = (
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("keyctl", "add_key", "request_key", "unshare", "setns", "personality"),
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsmount"),
    *("mount_setattr", "name_to_handle_at", "open_by_handle_at", "fanotify_init", "quotactl", "acct"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("swapon", "swapoff", "iopl", "ioperm", "syslog"),
    *("settimeofday", "adjtimex", "clock_settime", "clock_adjtime"),
)
_MEMORY_FILES: Final = ("memfd_create", "memfd_secret")
_NEVER: Final = (*_NETWORK, *_PROGRAMS, *_PROCESSES, *_MACHINE, *_MEMORY_FILES)

_SERVING: Final = (
    *("futex", "sched_yield", "clock_gettime", "read", "write", "recvfrom", "sendto"),
    *("poll", "ppoll", "select", "pselect6", "pread64", "readv", "writev", "close", "lseek", "fstat"),
    *("munmap", "mremap", "madvise", "mincore", "brk", "membarrier", "mbind"),
    *("exit", "exit_group", "set_robust_list", "set_tid_address", "rseq", "sigaltstack"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "restart_syscall"),
    *("nanosleep", "clock_nanosleep", "clock_getres", "gettimeofday", "time", "times"),
    *("getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getcpu"),
    *("sched_getaffinity", "getrandom", "getrlimit", "getrusage", "sysinfo", "uname"),
)
# Where a path is only asked about: no answer, and no end.
_ASKING: Final = (
    *("stat", "lstat", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getcwd"),
)


def loading(*, on_gpu: bool) -> bytes:
    """From the first message on, over everything that is read, the model's file among it.

    With a GPU its driver tries sockets and programs of its own, and lives without them: it is refused.
    """
    rules = _never(on_gpu=on_gpu)
    # Where no memory may be both written and executed (MemoryDenyWriteExecute= of the unit), libffi lays the
    # code of a callback into a file in memory, and maps that twice.
    rules["memfd_create"] = ALLOW
    rules["clone"] = (Case((Argument(0, _CLONE_NEW, 0),), ALLOW), Case((), KILL))
    rules["clone3"] = bpf.refuse(errno.ENOSYS)  # its flags can not be seen; the C library takes clone then
    return bpf.assemble(rules, ALLOW)


def serving(pid: int, *, limits_cpu: bool = False) -> bytes:
    """From the first prompt on. `pid` is the process itself: whom it may end."""
    rules: dict[str, Rule] = dict.fromkeys(_SERVING, ALLOW)
    rules |= dict.fromkeys(_ASKING, bpf.refuse(errno.EACCES))
    # An open file's properties are asked for with an empty path.
    rules["newfstatat"] = _either(3, _AT_EMPTY_PATH)
    rules["statx"] = _either(2, _AT_EMPTY_PATH)
    rules |= dict.fromkeys(("mmap", "mprotect", "pkey_mprotect"), _when(Argument(2, _PROT_EXEC, 0)))
    rules["clone"] = _when(Argument(0, _CLONE_NEW | _CLONE_THREAD, _CLONE_THREAD))
    rules["clone3"] = bpf.refuse(errno.ENOSYS)
    rules |= dict.fromkeys(("kill", "tgkill"), _when(Argument(0, _WORD, pid)))
    rules["prctl"] = _one_of(0, (_PR_SET_NAME, _PR_SET_VMA))
    rules["fcntl"] = _one_of(1, (_F_GETFL, _F_SETFL, _F_GETFD, _F_SETFD, _F_DUPFD_CLOEXEC))
    rules["ioctl"] = _one_of(1, (_TCGETS, _FIONBIO, _FIOCLEX))
    own = Argument(0, _WORD, 0)
    limits = [Case((own, Argument(2, (1 << 64) - 1, 0)), ALLOW)]  # they are read
    if limits_cpu:
        limits.append(Case((own, Argument(1, _WORD, _RLIMIT_CPU)), ALLOW))
    rules["prlimit64"] = limits
    return bpf.assemble(rules, KILL)


def serving_on_gpu() -> bytes:
    """The same with a GPU: a driver opens its devices and writes code at any time, so the list stays open.

    No process and no program is started any more.
    """
    rules = _never(on_gpu=False)
    rules["clone"] = (Case((Argument(0, _CLONE_NEW | _CLONE_THREAD, _CLONE_THREAD),), ALLOW), Case((), KILL))
    rules["clone3"] = bpf.refuse(errno.ENOSYS)
    rules["fork"] = KILL
    rules |= dict.fromkeys(_MEMORY_FILES, ALLOW)
    return bpf.assemble(rules, ALLOW)


def _never(*, on_gpu: bool) -> dict[str, Rule]:
    rules: dict[str, Rule] = dict.fromkeys(_NEVER, KILL)
    if on_gpu:
        rules |= dict.fromkeys((*_NETWORK, *_PROGRAMS), bpf.refuse(errno.EPERM))
        rules |= dict.fromkeys(_MEMORY_FILES, ALLOW)
    return rules


def _when(*conditions: Argument) -> tuple[Case, ...]:
    return (Case(conditions, ALLOW),)


def _either(place: int, flag: int) -> tuple[Case, ...]:
    return (Case((Argument(place, flag, flag),), ALLOW), Case((), bpf.refuse(errno.EACCES)))


def _one_of(place: int, values: Iterable[int]) -> tuple[Case, ...]:
    return tuple(Case((Argument(place, _WORD, value),), ALLOW) for value in values)
