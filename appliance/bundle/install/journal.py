"""`install.jsonl`: a line of JSON for each finished step, on the disk before the next one begins; and the
lock.

Owner: the process that holds the lock. A torn last line (a power cut) is not there; a line before it that
can not be read means that somebody else wrote into the file, and nothing goes on.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance import durable
from appliance.bundle.install import steps
from appliance.bundle.install.steps import State, What
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import InternalError, SetupError

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_LINE_BYTES: Final = 16 * 1024
_KEPT_LINES: Final = 400  # of earlier runs, when the file is begun anew
_TRIM_BYTES: Final = 1024 * 1024

Name = Annotated[str, Meta(max_length=200)]


class Plan(msgspec.Struct, frozen=True):
    """What a run is about: all that undoing it needs. Folders are names below `releases`."""

    what: What
    serial: int
    release: Name
    folder: Name
    previous: Name = ""  # the folder that served before; empty: none
    previous_serial: int = 0
    restores: bool = False  # the schema changes: going back takes the copy of the home
    staged: Name = ""  # the copy that it is installed from: its folder below `staging`
    source: Name = ""  # the copy that a rollback by hand goes back to
    copy: Name = ""  # of the home: its folder below `backups`; empty: not made
    sums_sha256: Name = ""
    key_ids: tuple[Name, ...] = ()
    schema: Name = ""  # before


class Line(msgspec.Struct, frozen=True):
    """One finished step. Unknown fields of a later release are passed over: it may have to be undone by this
    one.
    """

    run: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    state: State
    at_us: int
    plan: Plan
    reason: Name = ""  # of rolling_back and rolled_back: a code
    exit: int = 0
    message: Annotated[str, Meta(max_length=2000)] = ""


def read(path: Path) -> list[Line]:
    """Every line; a torn last one is dropped. SetupError where the file is not one that we wrote."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SetupError("the installer's journal is too large to be ours", code="install_journal")
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole, _, _torn = data.rpartition(b"\n")
    found: list[Line] = []
    last: dict[str, State] = {}
    for number, raw in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            line = msgspec.json.decode(raw[: MAX_LINE_BYTES + 1], type=Line)
        except msgspec.MsgspecError as error:
            raise _damaged(path, number) from error
        if line.run in last and not steps.may_follow(line.plan.what, last[line.run], line.state):
            raise _damaged(path, number)
        last[line.run] = line.state
        found.append(line)
    return found


def new_run() -> str:
    """A name for one run."""
    return secrets.token_hex(8)


def append(path: Path, line: Line) -> None:
    """Durable when it returns. A torn line of an earlier crash is cut off first."""
    raw = msgspec.json.encode(line) + b"\n"
    if len(raw) > MAX_LINE_BYTES:
        raise InternalError("a line of the installer's journal is too long")
    before = read(path)
    latest = next((each for each in reversed(before) if each.run == line.run), None)
    if not steps.may_follow(line.plan.what, latest.state if latest else None, line.state):
        raise InternalError(f"the installer's journal can not say {line.state} here")
    if path.exists() and path.stat().st_size > _TRIM_BYTES:
        # The last commit stays, however many runs failed since: it says what a rollback goes back to.
        commits = [each for each in before[:-_KEPT_LINES] if each.state is State.COMMITTED]
        kept = [*commits[-1:], *before[-_KEPT_LINES:]]
        durable.write_file(path, b"".join(msgspec.json.encode(each) + b"\n" for each in kept))
    is_new = not path.exists()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.PRIVATE_FILE)
    try:
        os.ftruncate(fd, _whole_bytes(fd))
        os.lseek(fd, 0, os.SEEK_END)
        durable.write_all(fd, raw)
        os.fsync(fd)
    finally:
        os.close(fd)
    if is_new:
        durable.fsync_dir(path.parent)


def _whole_bytes(fd: int) -> int:
    """Bytes up to the last line feed."""
    data = os.pread(fd, MAX_BYTES, 0)
    return data.rfind(b"\n") + 1


@contextlib.contextmanager
def locked(site: Site) -> Iterator[None]:
    """Be the only installer. BundleRefused (30) where another one is at work."""
    site.state.mkdir(mode=0o755, parents=True, exist_ok=True)
    busy = BundleRefused(
        Exit.BUSY,
        "another installation is under way on this host",
        hint="wait for it; its steps: appliance bundle list",
    )
    with durable.locked(site.lock, busy):
        yield


def _damaged(path: Path, number: int) -> SetupError:
    return SetupError(
        f"line {number} of {path} is not one that an installer wrote",
        code="install_journal",
        hint="somebody else changed it: find out who, then move it aside; releases are listed by: "
        "appliance bundle list",
    )
