"""`deploy/bootstrap/cuda.py`: the CUDA backend of our llama.cpp, one more library that the worker can load.

It is compiled with NVIDIA's compiler as PyPI carries it, from the source that our wheel was made of, and
kept in the cache by what it is made of. Real code for each architecture and no PTX: nothing is compiled at
run time, on which a driver may refuse PTX that is newer than itself. Without NCCL (one host), and without
VMM, whose driver library no builder has. About four hours of one core; an interrupted build goes on where
it was.

Where it can not be built this says why, and the CPU's wheel is complete without it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
import sysconfig
from pathlib import Path

sys.dont_write_bytecode = True

import host  # noqa: E402 - the switch above must come first
import llama  # noqa: E402

LIBRARY = "libggml-cuda.so"
ARCHITECTURES = "75-real;80-real;86-real;89-real;90-real;120a-real"
SWITCHES = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU=OFF",
    "-DGGML_CUDA=ON",
    "-DGGML_CUDA_NO_VMM=ON",
    "-DGGML_CUDA_NCCL=OFF",
    f"-DCMAKE_CUDA_ARCHITECTURES={ARCHITECTURES}",
    "-DLLAMA_BUILD_COMMON=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
)
# Of NVIDIA's wheels and of the driver: the backend needs them, and no bare host has them.
RUNTIME = ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13")
DRIVER = "libcuda.so.1"
_LOCK = host.LOCKS / "cuda.txt"
_RUNTIME_LOCK = host.LOCKS / "cuda-runtime.txt"
_TOOLKIT = "nvidia/cu13"  # where all of NVIDIA's wheels put their files
_ROOM_BYTES = 6 << 30
_STEP = re.compile(r"^\[(\d+)/(\d+)\]")


def main() -> None:
    """Build it, and put it into `.venv`."""
    try:
        host.check_host()
        built = backend()
        install(built)
    except host.SetupFailed as error:
        sys.exit(
            f"cuda: the CUDA backend is not built: {error}\n  llama.cpp computes on the processor without it"
        )
    except KeyboardInterrupt:
        sys.exit("cuda: interrupted; run it again to go on")
    host.say(f"CUDA backend: {built}")


def find() -> Path | None:
    """The backend, where it has been built and still is what was put there."""
    library = _folder() / LIBRARY
    pinned = _folder() / "SHA256"
    if not library.is_file() or not pinned.is_file():
        return None
    if host.sha256_of(library) != pinned.read_text(encoding="ascii").strip():
        host.say("the cached CUDA backend is damaged: building it again")
        shutil.rmtree(_folder())
        return None
    return library


def backend() -> Path:
    """The backend from the cache, or built now. SetupFailed where this host can not build it."""
    with host.locked(_folder().with_suffix(".lock")):
        if found := find():
            return found
        check()
        host.say("building the CUDA backend once (about 2 hours on 2 cores)")
        return _build(configure())


def install(library: Path) -> None:
    """Beside the other backends of `.venv`, with the libraries that it computes with."""
    python = host.VENV / "bin" / "python"
    host.run(
        [python, "-m", "pip", "install", "--no-deps", "--require-hashes", "-r", _RUNTIME_LOCK],
        log=host.cache_dir() / "logs" / "cuda-runtime.log",
    )
    place = sysconfig.get_path("platlib", vars={"base": str(host.VENV), "platbase": str(host.VENV)})
    target = Path(place) / "llama_cpp" / "lib" / LIBRARY
    temporary = target.with_suffix(".new")
    shutil.copyfile(library, temporary)
    temporary.replace(target)


def runtime() -> list[Path]:
    """NVIDIA's libraries that the backend computes with, out of its wheels."""
    return [_toolkit() / "lib" / name for name in RUNTIME]


def terms() -> dict[str, bytes]:
    """Under which they may be handed on, by a name for each text."""
    found = {}
    for name, version in versions().items():
        [folder] = _packages().glob(f"{name.replace('-', '_')}-{version}.dist-info/licenses")
        for each in sorted(folder.iterdir()):
            found[f"{name}/{each.name}"] = each.read_bytes()
    return found


def versions() -> dict[str, str]:
    """Their packages, as they are locked."""
    text = _RUNTIME_LOCK.read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))


def check() -> None:
    """SetupFailed with all that this host lacks for it."""
    missing = []
    if platform.machine() != "x86_64":
        missing.append(f"NVIDIA's compiler is taken for x86-64, and this is {platform.machine()}")
    free = shutil.disk_usage(host.cache_dir()).free
    if free < _ROOM_BYTES:
        missing.append(f"{free >> 30} GiB are free for the cache, {_ROOM_BYTES >> 30} are needed")
    if missing:
        raise host.SetupFailed("; ".join(missing))


def configure() -> Path:
    """The build's folder, configured. It stays until the library is made."""
    work = _work()
    toolkit = _toolkit()
    source = work / "source"
    if not source.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        shutil.move(llama.unpacked(work / "unpacked"), source)
    host.run(
        [
            *(_programs() / "cmake", "-S", source, "-B", work / "build", "-G", "Ninja"),
            *(
                *SWITCHES,
                f"-DCUDAToolkit_ROOT={toolkit}",
                f"-DCMAKE_CUDA_COMPILER={toolkit / 'bin' / 'nvcc'}",
            ),
        ],
        log=host.cache_dir() / "logs" / "cuda-configure.log",
        extra=_variables(toolkit),
    )
    return work / "build"


def _build(build: Path) -> Path:
    progress = host.Progress("compiling the CUDA backend")

    def on_line(line: str) -> None:
        if match := _STEP.match(line):
            progress.update(int(match[1]), int(match[2]))

    host.run(
        [_programs() / "cmake", "--build", build, "--target", "ggml-cuda"],
        log=host.cache_dir() / "logs" / "cuda-build.log",
        extra=_variables(_toolkit()),
        on_line=on_line,
    )
    progress.finish()
    built = build / "bin" / LIBRARY
    if problems := floor(built):
        raise host.SetupFailed("it would not run on the oldest host:\n" + "\n".join(problems))
    publish = _work() / "publish"
    shutil.rmtree(publish, ignore_errors=True)
    publish.mkdir()
    shutil.copyfile(built, publish / LIBRARY)
    (publish / "SHA256").write_text(host.sha256_of(publish / LIBRARY) + "\n", encoding="ascii")
    publish.replace(_folder())  # one rename: a half-made folder is never found
    shutil.rmtree(_work())
    return _folder() / LIBRARY


def floor(library: Path) -> list[str]:
    """Why a bare host of ours could not load it, beside our wheel, NVIDIA's wheels and its driver."""
    from appliance.bundle import elf  # noqa: PLC0415 - of the environment that set-up makes

    beside = {"libggml-base.so", "libgomp.so.1", DRIVER, *RUNTIME}
    return elf.problems_of(library.name, library.read_bytes(), beside)


def key() -> str:
    """What the library depends on: our wheel's source, compilers, switches, C library."""
    parts = {
        "wheel": llama.key(),
        "locks": host.digest_of(_LOCK, _RUNTIME_LOCK),
        "switches": SWITCHES,
    }
    return f"cuda-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"


def _folder() -> Path:
    return host.cache_dir() / "cuda" / key()


def _work() -> Path:
    return host.cache_dir() / "cuda" / f"build-{key()}"


def _environment() -> Path:
    """An environment with NVIDIA's compiler, the libraries to link with, and a CMake that knows both."""
    folder = (
        host.cache_dir() / "cuda" / f"environment-{host.digest_of(_LOCK, _RUNTIME_LOCK, salt=sys.version)}"
    )
    if not (folder / "complete").is_file():
        host.say("fetching NVIDIA's compiler into the cache (about 700 MB)")
        shutil.rmtree(folder, ignore_errors=True)
        logs = host.cache_dir() / "logs"
        host.run([sys.executable, "-m", "venv", folder], log=logs / "cuda-venv.log")
        pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--no-deps"]
        for lock in (_LOCK, _RUNTIME_LOCK):
            host.run([*pip, "--require-hashes", "-r", lock], log=logs / "cuda-packages.log")
        (folder / "complete").touch()
    return folder


def _programs() -> Path:
    return _environment() / "bin"


def _packages() -> Path:
    [found] = (_environment() / "lib").glob("python3*/site-packages")
    return found


def _toolkit() -> Path:
    """The compiler's folder, with the names that a linker asks for: wheels have no links."""
    root = _packages() / _TOOLKIT
    for name in RUNTIME:
        link = root / "lib" / name.partition(".so")[0]
        link = link.with_name(f"{link.name}.so")
        if not link.exists():
            link.symlink_to(name)
    return root


def _variables(toolkit: Path) -> dict[str, str]:
    tools = llama.build_tools()
    path = f"{_programs()}:{toolkit / 'bin'}:{tools}:{host.environment()['PATH']}"
    return {"PATH": path, "CUDACXX": str(toolkit / "bin" / "nvcc")}


if __name__ == "__main__":
    main()
