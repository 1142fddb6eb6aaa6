"""`python3 deploy/bootstrap [--home DIR]`: from a fresh clone to a `.venv` that works.

Steps: check the host · the environment from the lock, every package by hash · llama.cpp's wheel ·
this project · the starter model. Each is skipped when nothing that it is made of has changed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
import tomllib
from pathlib import Path

sys.dont_write_bytecode = True

import cuda  # noqa: E402 - the switch above must come first
import host  # noqa: E402
import llama  # noqa: E402
import peers  # noqa: E402
import starter  # noqa: E402

STAMP = host.VENV / "set-up.stamp"


def main() -> None:
    """Set everything up; says what it does when there is something to do."""
    parser = argparse.ArgumentParser(description="Set the checkout up.")
    parser.add_argument("--home", type=Path, help="put the starter model into this home's store")
    parser.add_argument("--llama-server", action="store_true", help="build the bench's peer, nothing else")
    parser.add_argument("--llama-native", action="store_true", help="build the bench's other llama.cpp")
    parser.add_argument("--bench", action="store_true", help="also what the bench compares and draws with")
    options = parser.parse_args()
    try:
        host.check_host()
        if options.llama_server:
            print(f"  llama-server: {peers.server()}")
            return
        if options.llama_native:
            print(f"  llama.cpp for this processor: {llama.native()}")
            return
        _environment()
        if options.bench:
            peers.environment()
        if options.home is not None:
            starter.put_into(options.home.resolve())
        else:
            starter.model()
    except host.SetupFailed as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; run it again to go on")


def _environment() -> None:
    wanted = _stamp()
    if STAMP.is_file() and STAMP.read_text(encoding="ascii") == wanted:
        return
    began = time.monotonic()
    print("setting up (once; later runs find it done)", flush=True)
    wheel = llama.wheel()
    shutil.rmtree(host.VENV, ignore_errors=True)
    logs = host.cache_dir() / "logs"
    host.run([sys.executable, "-m", "venv", host.VENV], log=logs / "venv.log")
    python = host.VENV / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "install", "--no-deps"]
    lock = host.LOCKS / "dev.txt"
    total = len(re.findall(r"^[a-z0-9][a-z0-9._-]*==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    progress = host.Progress("installing packages")
    host.run(
        [*pip, "--require-hashes", "-r", lock],
        log=logs / "packages.log",
        on_line=host.counting(r"^(Collecting|Ignoring) ", progress, total),
    )
    progress.finish()
    # Built here from a locked source: its own digest is checked by the cache.
    host.run([*pip, "--no-index", wheel], log=logs / "llama.log")
    host.run([*pip, "--no-index", "--no-build-isolation", "-e", host.ROOT], log=logs / "project.log")
    if backend := cuda.find():  # what `make cuda` had put into the environment that stood here
        cuda.install(backend)
    STAMP.write_text(wanted, encoding="ascii")
    host.say(f"environment ready in {time.monotonic() - began:.0f} s")


def _stamp() -> str:
    """Everything that the environment is made of; the project itself is installed in place."""
    project = tomllib.loads((host.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    salt = f"{sys.version}{host.ROOT}{llama.key()}{project['scripts']}"
    return host.digest_of(host.LOCKS / "dev.txt", salt=salt)


if __name__ == "__main__":
    main()
