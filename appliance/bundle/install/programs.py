"""Running a release's own program, as the service's user and with nothing of the caller's environment.

Root never opens the home: whatever reads or writes it goes through here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance import config
from appliance.errors import SetupError

CLEAN: Final = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_UMASK: Final = 0o077
_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Account:
    """Who the service runs as."""

    name: str
    uid: int
    gid: int


class ProgramFailed(SetupError):
    """A program of a release ended with something else than 0."""

    def __init__(self, words: str, code: int, said: str) -> None:
        super().__init__(
            f"{words} ended with {code}: {said[:500] or 'nothing was said'}", code="program_failed"
        )
        self.exit_code = code


def as_account(account: Account | None) -> dict[str, Any]:
    """What `subprocess` needs to become somebody else; nothing where we are them already (in tests)."""
    if account is None or os.geteuid() == account.uid:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


@dataclass(frozen=True, slots=True)
class Program:
    """A release's `bin/appliance`."""

    folder: Path
    account: Account | None
    unlock: str = field(default="", repr=False)  # what opens a sealed home; goes in by standard input

    @property
    def path(self) -> Path:
        return self.folder / "bin/appliance"

    def run(self, *words: str, seconds: float = _SECONDS, given: str = "") -> str:
        """What it said on standard output. ProgramFailed, with the last lines of its errors, unless it ends
        with 0.
        """
        if self.unlock and not given:
            words, given = (*words, "--unlock", "-"), self.unlock
        return run([str(self.path), *words], self.account, seconds=seconds, given=given)

    def ask(self, *words: str, seconds: float = _SECONDS, given: str = "") -> dict[str, Any]:
        """What a command answers to `--json`."""
        said = self.run(*words, "--json", seconds=seconds, given=given)
        try:
            found = json.loads(said)
        except ValueError as error:
            raise ProgramFailed(" ".join(words[:3]), 0, f"no JSON: {said[:200]}") from error
        if not isinstance(found, dict):
            raise ProgramFailed(" ".join(words[:3]), 0, "not an object")
        return found


def run_module(module: str, *words: str, account: Account | None, given: str = "") -> str:
    """A module of the running release that needs only Python's own library, as the service's user."""
    return run([sys.executable, "-I", "-m", module, *words], account, seconds=24 * 3600, given=given)


def run(command: Sequence[str], account: Account | None, *, seconds: float, given: str) -> str:
    """Run to the end. ProgramFailed unless it ends with 0 in time."""
    words = " ".join(Path(each).name if each.startswith("/") else each for each in command[:4])
    try:
        done = subprocess.run(  # noqa: S603 - a verified release's own program
            command,
            capture_output=True,
            check=False,
            cwd="/",
            env=CLEAN | config.credentials(),  # the one thing of the caller's that a sealed home may want
            input=given,
            text=True,
            timeout=seconds,
            umask=_UMASK,
            **as_account(account),
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(words, -1, f"did not end in {seconds:.0f} s") from error
    except OSError as error:
        raise ProgramFailed(words, -1, f"can not be run: {error.strerror}") from error
    if done.returncode:
        raise ProgramFailed(words, done.returncode, "; ".join(done.stderr.strip().splitlines()[-3:]))
    return str(done.stdout)
