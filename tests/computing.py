"""Real workers on what this machine can be told to be: an older processor, a GPU without its driver."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import msgspec

from appliance.engine import devices
from appliance.engine.channel import BlockingChannel
from appliance.engine.messages import (
    Delta,
    Finished,
    Generate,
    LoadFailed,
    LoadModel,
    Ready,
    ToGateway,
    ToWorker,
    Tuning,
)
from appliance.engine.process import VARIABLES
from appliance.engine.question import Sampling, Turn

LIBRARIES = Path(llama_cpp.__file__).parent / "lib"
TUNING = Tuning(flash_attn=False, n_threads=1, n_threads_batch=1)
GREEDY = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, 12, ())
QUESTION = "Name three colours."

# A backend that needs the driver's library, and one that comes up and finds no GPU: ggml-backend-impl.h.
NEEDS_DRIVER = (
    "extern int cuInit(unsigned); void *ggml_backend_init(void) { return (void *)(long)cuInit(0); }"
)
FINDS_NO_GPU = """
#include <stddef.h>
struct registry {
    int api_version;
    const char *(*name)(void *);
    size_t (*num_devices)(void *);
    void *(*device)(void *, size_t);
    void *(*function)(void *, const char *);
    void *context;
};
static const char *name(void *registry) { return "CUDA"; }
static size_t none(void *registry) { return 0; }
static struct registry found = { API_VERSION, name, none, 0, 0, 0 };
void *ggml_backend_init(void) { return &found; }
"""
API_VERSION = 2


def load_of(model: Path, **changes: object) -> LoadModel:
    """A small load of this model, with a tuning: nothing is measured."""
    load = LoadModel("starter", str(model), 512, 1, 64, 1, 1, -1, 1, 150_000, 0, tuning=TUNING)
    return msgspec.structs.replace(load, sandbox="required", **changes)


def tuning_of(backend: str) -> Tuning:
    """As if it had been measured there."""
    return msgspec.structs.replace(TUNING, backend=backend)


def program(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line of an installation."""
    command = [str(python), "-m", "appliance", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@contextlib.contextmanager
def worker(
    load: LoadModel, *, python: Path = Path(sys.executable)
) -> Iterator[tuple[BlockingChannel[ToGateway, ToWorker], Ready | LoadFailed]]:
    """A real worker process, sandbox and all; its channel, and what it said to its load."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        process = subprocess.Popen(
            [str(python), "-m", "appliance.engine.worker", "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **VARIABLES},
        )
        theirs.close()
        channel: BlockingChannel[ToGateway, ToWorker] = BlockingChannel(ours, ToGateway)
        try:
            channel.send(load)
            said = channel.receive()
            assert isinstance(said, (Ready, LoadFailed)), (said, process.stderr and process.stderr.read())
            yield channel, said
        finally:
            process.kill()
            process.communicate()


def answer(channel: BlockingChannel[ToGateway, ToWorker], text: str = QUESTION) -> str:
    """A short greedy answer."""
    channel.send(Generate("1", (Turn("user", text),), GREEDY))
    pieces = []
    while not isinstance(message := channel.receive(), Finished):
        assert message is not None
        if isinstance(message, Delta):
            pieces.append(message.text)
    return "".join(pieces)


def scores() -> dict[str, int]:
    """What each variant says of itself here, by ggml's own function in it."""
    found = {}
    for name, path in devices.cpu_libraries(LIBRARIES).items():
        found[name] = int(ctypes.CDLL(str(path)).ggml_backend_score())
    return found


def compiled(folder: Path, source: str) -> Path:
    """A backend of this source, which asks for a `libcuda.so.1` where it calls one; none is left here."""
    stub, made = folder / "stub", folder / devices.GPU_LIBRARY
    stub.mkdir()
    driver = stub / "libcuda.so"
    for target, text, options in (
        (driver, "int cuInit(unsigned flags) { return 0; }", ["-Wl,-soname,libcuda.so.1"]),
        (made, source, [f"-DAPI_VERSION={API_VERSION}", f"-L{stub}", "-Wl,--as-needed", "-lcuda"]),
    ):
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(target), *options]
        subprocess.run(command, input=text, text=True, check=True)
    shutil.rmtree(stub)
    return made


def installation(folder: Path, gpu_library: Path) -> Path:
    """The Python of an environment whose llama.cpp has this GPU backend, too; all else is that of ours."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    package = own / "llama_cpp"
    (package / "lib").mkdir(parents=True)
    for each in Path(llama_cpp.__file__).parent.iterdir():
        if each.name != "lib":
            (package / each.name).symlink_to(each)
    for each in LIBRARIES.glob("*.so"):
        shutil.copy(each, package / "lib")
    shutil.copy(gpu_library, package / "lib")
    shared = sysconfig.get_path("purelib")
    root = Path(__file__).resolve().parent.parent
    (own / "shared.pth").write_text(f"{shared}\n{root}\n", encoding="utf-8")
    return folder / "bin" / "python"
