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
# What the portable build is measured against (`make bench ONLY=variants`): for this processor alone.
NATIVE = {
    "-DGGML_NATIVE=OFF": "-DGGML_NATIVE=ON",
    "-DGGML_BACKEND_DL=ON": "-DGGML_BACKEND_DL=OFF",
    "-DGGML_CPU_ALL_VARIANTS=ON": "-DGGML_CPU_ALL_VARIANTS=OFF",
}
# The distribution forces the common library on; an ordinary variable set at project() wins.
INCLUDE = "set(LLAMA_BUILD_COMMON OFF)\n"
_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")


def wheel() -> Path:
    """The wheel, from the cache or made now."""
    return _wheel(key(), SWITCHES, "building llama.cpp once for this machine (about 5 minutes on 2 cores)")


def native() -> Path:
    """A wheel for this processor alone, from the cache or made now."""
    switches = tuple(NATIVE.get(each, each) for each in SWITCHES)
    return _wheel(_native_key(switches), switches, "building llama.cpp for this processor (about 7 minutes)")


def find_native() -> Path | None:
    """The same, where it has been made."""
    return cached(_folder(_native_key(tuple(NATIVE.get(each, each) for each in SWITCHES))))


def _native_key(switches: tuple[str, ...]) -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    about = sorted({each for each in lines if each.startswith(("model name", "flags"))})
    return f"native-{key(switches, about)}"


def _folder(name: str) -> Path:
    return host.cache_dir() / "wheels" / name


def _wheel(name: str, switches: tuple[str, ...], says: str) -> Path:
    folder = _folder(name)
    with host.locked(folder.with_suffix(".lock")):
        found = cached(folder)
        if found is not None:
            return found
        host.say(says)
        return _build(folder, switches)


def key(switches: tuple[str, ...] = SWITCHES, about: list[str] | None = None) -> str:
    """What the binary depends on: source, switches, architecture, C library, compiler, and `about`."""
    compiler = subprocess.run(
        ["g++", "-dumpversion"], check=True, capture_output=True, text=True
    ).stdout.strip()
    parts = {
        "source": hashlib.sha256((host.LOCKS / "llama.txt").read_bytes()).hexdigest(),
        "switches": [*switches, INCLUDE],
        "machine": platform.machine(),
        "libc": platform.libc_ver(),
        "compiler": compiler.split(".")[0],
    }
    if about:
        parts["about"] = about
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


def _build(folder: Path, chosen: tuple[str, ...]) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as scratch:
        staging = Path(scratch)
        include = staging / "nocommon.cmake"
        include.write_text(INCLUDE, encoding="utf-8")
        tools = build_tools()
        switches = [*chosen, f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={include}"]
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
                "--no-cache-dir",  # pip keeps built wheels by their source alone: other switches, same wheel
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
