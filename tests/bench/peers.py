"""Servers under one small interface: ours, llama-server, `llama_cpp.server`.

Each is a process on a free loopback port, with the same model and the same number of cells. Only
processes that were started here are ended, by their handle, and every wait has a bound.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.bench import tuned
from tests.harness import Gateway
from tests.homes import make_home
from tests.starter import starter_model

# Set-up knows where it put the peers; it is a program of its own and no package.
sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "bootstrap"))

import peers as installed

CELLS = 16384  # of each server's key-value pool: our default
START_SECONDS = 120.0
STOP_SECONDS = 20.0
CORES = len(os.sched_getaffinity(0))


class PeerFailed(Exception):
    """A peer did not start; the message holds its last words."""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    name: str
    url: str
    pid: int  # of the process that holds the model
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """Settings of llama-server that matter for speed. The defaults here are its own."""

    slots: int = 8
    unified: bool = False
    flash: bool = True
    threads: int = CORES
    cache_ram: bool = True

    def options(self) -> list[str]:
        """Its command line."""
        return [
            *("-np", str(self.slots)),
            "--kv-unified" if self.unified else "--no-kv-unified",
            *("-fa", "on" if self.flash else "off"),
            *("-t", str(self.threads)),
            *("-tb", str(CORES)),
            *([] if self.cache_ram else ["--cache-ram", "0"]),
        ]

    def __str__(self) -> str:
        return " ".join(self.options())


@contextlib.contextmanager
def ours(root: Path, *, toml: str = "", program: Sequence[str] = ()) -> Iterator[Server]:
    """Our gateway over a fresh home on disk. `program` replaces `appliance serve`."""
    root.parent.mkdir(parents=True, exist_ok=True)
    gateway = Gateway(home=make_home(root, toml=toml), worker="model", program=program)
    tuned.keep(gateway.home)
    try:
        gateway.start()
        headers = {"authorization": f"Bearer {gateway.key()}"}
        yield Server("appliance", gateway.url, gateway.worker_pid, headers)
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.stop()


def has_llama_server() -> bool:
    """Whether `make llama-server` has built it."""
    return installed.find_server() is not None


def server_program() -> Path:
    """llama-server's program. PeerFailed where it is not built."""
    program = installed.find_server()
    if program is None:
        raise PeerFailed("llama-server is not built: make llama-server")
    return program


@contextlib.contextmanager
def llama_server(
    root: Path,
    choice: Choice,
    *,
    model: Path | None = None,
    program: Path | None = None,
    options: Sequence[str] = (),
    cells: int = CELLS,
) -> Iterator[Server]:
    """llama-server with these settings; the starter model and the built program, where none is given."""
    port = _free_port()
    command = [
        str(program or server_program()),
        *("--model", str(model or starter_model())),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--ctx-size", str(cells)),
        *("--offline", "--no-ui", "--log-verbosity", "1"),
        *choice.options(),
        *options,
    ]
    with _process(root, command, f"http://127.0.0.1:{port}/health", cwd=root) as pid:
        yield Server("llama-server", f"http://127.0.0.1:{port}", pid)


def has_llama_cpp_server() -> bool:
    """Whether the bench's own environment is there."""
    return installed.find_environment() is not None


@contextlib.contextmanager
def llama_cpp_server(root: Path) -> Iterator[Server]:
    """The bindings' own server, one request at a time."""
    python = installed.find_environment()
    if python is None:
        raise PeerFailed("the bench's environment is not installed: make bench")
    port = _free_port()
    command = [
        *(str(python), "-m", "llama_cpp.server"),
        *("--model", str(starter_model())),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--n_ctx", str(CELLS)),
        *("--n_threads", str(CORES), "--n_threads_batch", str(CORES)),
    ]
    # Of itself the library looks for its backends in the current directory.
    libraries = next(python.parents[1].glob("lib/python*/site-packages/llama_cpp/lib"))
    with _process(root, command, f"http://127.0.0.1:{port}/v1/models", cwd=libraries) as pid:
        yield Server("llama_cpp.server", f"http://127.0.0.1:{port}", pid)


def bench_python() -> Path | None:
    """The Python that can draw, where it is installed."""
    return installed.find_environment()


@contextlib.contextmanager
def _process(root: Path, command: Sequence[str], probe: str, *, cwd: Path) -> Iterator[int]:
    """A peer's process, from the moment it answers `probe`."""
    root.mkdir(parents=True, exist_ok=True)
    words = root / "peer.log"
    with words.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, probe, words)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def _wait(process: subprocess.Popen[bytes], probe: str, words: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(probe, timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    tail = "\n".join(words.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
    raise PeerFailed(f"a peer did not start; it said:\n{tail}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
