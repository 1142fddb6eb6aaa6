"""The llama.cpp wheel: built once for this kind of machine, kept by content, checked at reuse.

One portable build: every CPU variant as a loadable backend, chosen at run time, so that the wheel
runs on any machine of this architecture. No mtmd (images) and no common library: half the compile.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import host

SWITCHES = (
    "-DLLAVA_BUILD=OFF",
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DCMAKE_INSTALL_BINDIR=llama_cpp/lib",
    "-DCMAKE_INSTALL_LIBDIR=llama_cpp/lib",
    "-DCMAKE_INSTALL_INCLUDEDIR=llama_cpp/include",
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
    "-DLLAMA_OPENSSL=OFF",
)
# The distribution forces the common library on; an ordinary variable set at project() wins.
INCLUDE = "set(LLAMA_BUILD_COMMON OFF)\n"
_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")


def wheel() -> Path:
    """The wheel, from the cache or made now."""
    folder = host.cache_dir() / "wheels" / key()
    with host.locked(folder.with_suffix(".lock")):
        found = cached(folder)
        if found is not None:
            return found
        host.say("building llama.cpp once for this machine (about 5 minutes on 2 cores)")
        return _build(folder)


def key() -> str:
    """What the binary depends on: source, switches, architecture, C library, compiler."""
    compiler = subprocess.run(
        ["g++", "-dumpversion"], check=True, capture_output=True, text=True
    ).stdout.strip()
    parts = {
        "source": hashlib.sha256((host.LOCKS / "llama.txt").read_bytes()).hexdigest(),
        "switches": [*SWITCHES, INCLUDE],
        "machine": platform.machine(),
        "libc": platform.libc_ver(),
        "compiler": compiler.split(".")[0],
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return f"llama-{platform.machine()}-{digest}"


def cached(folder: Path) -> Path | None:
    """The cached wheel, if it still is what was put there."""
    wheels = list(folder.glob("*.whl"))
    pinned = folder / "SHA256"
    if len(wheels) != 1 or not pinned.is_file():
        return None
    if host.sha256_of(wheels[0]) != pinned.read_text(encoding="ascii").strip():
        host.say("the cached llama.cpp wheel is damaged: building it again")
        shutil.rmtree(folder)
        return None
    return wheels[0]


def _build(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as scratch:
        staging = Path(scratch)
        include = staging / "nocommon.cmake"
        include.write_text(INCLUDE, encoding="utf-8")
        tools = build_tools()
        switches = [*SWITCHES, f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={include}"]
        progress = host.Progress("compiling llama.cpp")

        def on_line(line: str) -> None:
            if match := _STEP.match(line):
                progress.update(int(match[1]), int(match[2]))

        log = host.cache_dir() / "logs" / "llama-build.log"
        host.run(
            [
                tools / "python",
                "-m",
                "pip",
                "wheel",
                "-v",
                "--no-deps",
                "--no-build-isolation",
                "--no-binary",
                "llama-cpp-python",
                "--require-hashes",
                "-r",
                host.LOCKS / "llama.txt",
                "-w",
                staging / "out",
            ],
            log=log,
            extra={
                "CMAKE_ARGS": " ".join(switches),
                "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            },
            on_line=on_line,
        )
        progress.finish()
        built = next((staging / "out").glob("*.whl"))
        publish = staging / "publish"
        publish.mkdir()
        shutil.move(built, publish / built.name)
        (publish / "SHA256").write_text(host.sha256_of(publish / built.name) + "\n", encoding="ascii")
        publish.replace(folder)  # one rename: a half-made folder is never found
        return Path(folder, built.name)


def source(folder: Path) -> Path:
    """The source distribution that the lock pins, fetched into `folder`."""
    tools = build_tools()
    command: list[str | Path] = [tools / "python", "-m", "pip", "download", "--no-deps"]
    host.run(
        [
            *command,
            "--no-build-isolation",  # pip reads its metadata with the locked build tools
            "--no-binary",
            "llama-cpp-python",
            "--require-hashes",
            "-r",
            host.LOCKS / "llama.txt",
            "-d",
            folder,
        ],
        log=host.cache_dir() / "logs" / "llama-source.log",
        extra={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
    )
    return next(folder.glob("*.tar.gz"))


def unpacked(folder: Path) -> Path:
    """The vendored tree of llama.cpp, out of the source distribution that the lock pins."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    host.run(
        ["tar", "-xzf", source(folder), "-C", folder],
        log=host.cache_dir() / "logs" / "llama-unpack.log",
    )
    return next(folder.glob("*/vendor/llama.cpp"))


def build_tools() -> Path:
    """A private environment with the locked build tools; its folder of programs."""
    lock = host.LOCKS / "build.txt"
    name = host.digest_of(lock, salt=sys.version)
    environment = host.cache_dir() / "build-env" / name
    programs = environment / "bin"
    if not (environment / "complete").is_file():
        shutil.rmtree(environment, ignore_errors=True)
        logs = host.cache_dir() / "logs"
        host.run([sys.executable, "-m", "venv", environment], log=logs / "build-venv.log")
        host.run(
            [programs / "python", "-m", "pip", "install", "--require-hashes", "-r", lock],
            log=logs / "build-tools.log",
        )
        (environment / "complete").touch()
    return programs
