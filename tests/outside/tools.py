"""Programs that this project did not write. Missing ones are a reason to skip here, and to fail in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "tools"
GOPATH = Path("/usr/share/gocode")


def need(program: str, *, package: str) -> None:
    """Skip, or fail where CI=true, unless the program is on this machine."""
    if shutil.which(program) is None:
        missing(f"{program} is not on this machine: apt install {package}")


def missing(reason: str) -> None:
    """In CI the tools are there, because .ci/run installs them: then a missing one is a fault."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def go_program(folder: Path) -> Path:
    """`verify.go`, built with Debian's Go and Debian's golang.org/x/mod: no network, no module proxy."""
    need("go", package="golang-go")
    if not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        missing("golang.org/x/mod is not on this machine: apt install golang-golang-x-mod-dev")
    program = folder / "verify"
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GOPATH),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    subprocess.run(
        ["go", "build", "-o", str(program), str(SOURCES / "verify.go")],
        env=environment,
        check=True,
        timeout=110,
    )
    return program
