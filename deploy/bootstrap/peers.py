"""What the bench measures against, and nothing else needs: llama-server, and an environment for
`llama_cpp.server` and the plot. Both lie in the cache, keyed by what they are made of; neither touches
`.venv`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import host
import llama

# The server and the common library it stands on. No backend is compiled: it computes with those of our
# wheel, byte for byte, so that a difference in the bench is a difference between servers. No web page:
# its assets are not in the source distribution, and would be fetched.
SERVER_SWITCHES = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
)
SERVER = "llama-server"
_LOCK = host.LOCKS / "bench.txt"


def find_server() -> Path | None:
    """llama-server, where it has been built."""
    program = _server_folder() / SERVER
    return program if program.is_file() else None


def server() -> Path:
    """llama-server from the cache, or built now from what the bindings' distribution vendors."""
    wheel = llama.wheel()
    folder = _server_folder()
    with host.locked(folder.with_suffix(".lock")):
        if find_server() is None:
            host.say("building llama-server once for this machine (about 4 minutes on 2 cores)")
            _build_server(folder, wheel)
    return folder / SERVER


def find_environment() -> Path | None:
    """The bench environment's Python, where it has been made."""
    folder = _environment_folder()
    return folder / "bin" / "python" if (folder / "complete").is_file() else None


def environment() -> Path:
    """The Python of an environment with `llama_cpp.server`'s dependencies, our wheel and matplotlib."""
    folder = _environment_folder()
    with host.locked(folder.with_suffix(".lock")):
        if found := find_environment():
            return found
        host.say("installing what the bench compares with, into the cache")
        shutil.rmtree(folder, ignore_errors=True)
        logs = host.cache_dir() / "logs"
        host.run([sys.executable, "-m", "venv", folder], log=logs / "bench-venv.log")
        pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--no-deps"]
        host.run([*pip, "--require-hashes", "-r", _LOCK], log=logs / "bench-packages.log")
        host.run([*pip, "--no-index", llama.wheel()], log=logs / "bench-llama.log")
        (folder / "complete").touch()
    return folder / "bin" / "python"


def _server_folder() -> Path:
    name = host.digest_of(salt=f"{llama.key()}{SERVER_SWITCHES}")
    return host.cache_dir() / "bench" / f"{SERVER}-{name}"


def _environment_folder() -> Path:
    name = host.digest_of(_LOCK, salt=f"{sys.version}{llama.key()}")
    return host.cache_dir() / "bench" / f"environment-{name}"


def _build_server(folder: Path, wheel: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as scratch:
        staging = Path(scratch)
        tools = llama.build_tools()
        logs = host.cache_dir() / "logs"
        path = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
        source = llama.unpacked(staging / "source")
        build = staging / "build"
        host.run(
            ["cmake", "-S", source, "-B", build, "-G", "Ninja", *SERVER_SWITCHES],
            log=logs / "llama-server-configure.log",
            extra=path,
        )
        progress = host.Progress("compiling llama-server")
        step = re.compile(r"^\[(\d+)/(\d+)\]")

        def on_line(line: str) -> None:
            if match := step.match(line):
                progress.update(int(match[1]), int(match[2]))

        host.run(
            ["cmake", "--build", build, "--target", SERVER],
            log=logs / "llama-server-build.log",
            extra=path,
            on_line=on_line,
        )
        progress.finish()
        publish = staging / "publish"
        shutil.copytree(build / "bin", publish)
        _take_libraries(wheel, publish)
        publish.replace(folder)  # one rename: a half-made folder is never found


def _take_libraries(wheel: Path, folder: Path) -> None:
    """Our wheel's libraries, in the place of those that were just built, and its CPU variants."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("llama_cpp/lib/") and name.endswith(".so"):
                (folder / Path(name).name).write_bytes(archive.read(name))
