"""This project as a commit has it: which files, since when, and whether the folder still is that commit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import RequestError, SetupError

_LINK, _SUBMODULE, _PROGRAM = "120000", "160000", "100755"
# What a host runs or reads. Tests, set-up and locks stay on the connected side.
_PACKED: Final = ("appliance/", "migrations/", "models/", "deploy/")
_LEFT_OUT: Final = ("deploy/bootstrap/", "deploy/lock/")


@dataclass(frozen=True, slots=True)
class Source:
    """A commit, its time in Unix seconds, whether files differ from it, and the files to pack with it.

    `files`: (path, whether it may be executed).
    """

    commit: str
    seconds: int
    is_dirty: bool
    files: tuple[tuple[str, bool], ...]


def read(tree: Path) -> Source:
    """What git says of a checkout. SetupError where it is none, RequestError where a file can not travel."""
    commit, _, seconds = _git(tree, "log", "-1", "--format=%H %ct").strip().partition(" ")
    listed = [line.split("\t", 1) for line in _git(tree, "ls-files", "-s", "-z").split("\0") if line]
    files = [(path, about.split(" ")[0]) for about, path in listed if _is_packed(path)]
    if odd := [path for path, mode in files if mode in {_LINK, _SUBMODULE}]:
        raise RequestError(f"a link or a submodule can not be packed: {odd[0]}")
    status = _git(tree, "status", "--porcelain")
    present = [(path, mode == _PROGRAM) for path, mode in files if (tree / path).is_file()]
    return Source(commit, int(seconds), bool(status.strip()), tuple(sorted(present)))


def _is_packed(path: str) -> bool:
    return path.startswith(_PACKED) and not path.startswith(_LEFT_OUT)


def _git(tree: Path, *arguments: str) -> str:
    command: Sequence[str] = ("git", "-C", str(tree), "-c", "core.quotePath=false", *arguments)
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - a list
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"{tree} is not a checkout that git reads",
            code="no_checkout",
            hint="a bundle is built from a clone of the project, where git is installed",
        ) from error
    return done.stdout
