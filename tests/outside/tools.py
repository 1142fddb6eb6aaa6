"""Programs that this project did not write. Missing ones are a reason to skip here, and to fail in CI."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.needed import missing, need

SOURCES = Path(__file__).parents[1] / "tools"
GOPATH = Path("/usr/share/gocode")


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
