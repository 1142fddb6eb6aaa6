"""When each key was used last: beside the database, advisorily, for people who look at their keys.

A commit for every call would cost what a call costs, so a small file is written at most once a minute, and
at the stop. A crash forgets the last minute. It says the time only: from where stands on the record. What
is read is bounded and believed only where it can be: a file that is none is begun anew.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import msgspec
from msgspec import Meta

from appliance import durable
from appliance.accounts.directory import Directory
from appliance.clock import Clock
from appliance.log import get_logger

WRITE_SECONDS: Final = 60.0
MAX_BYTES: Final = 8 * 1024 * 1024  # a quarter of a million keys
_SECOND_US: Final = 1_000_000

KeyId = Annotated[str, Meta(pattern="^[a-z2-7]{10}$")]
Seconds = Annotated[int, Meta(ge=0, lt=1 << 43)]  # since the epoch

log = get_logger(__name__)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    used: dict[KeyId, Seconds]


def load(path: Path, *, now_us: int) -> dict[str, int]:
    """Microseconds by key; nothing where there is no file, or a bad one. What lies ahead is not believed."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError
        known = msgspec.json.decode(data, type=_File)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        log.warning("key_uses_unreadable", error=type(error).__name__)
        return {}
    return {key: at * _SECOND_US for key, at in known.used.items() if at * _SECOND_US <= now_us}


def store(path: Path, uses_us: dict[str, int]) -> None:
    """Replace the file. OSError tells of a full or failing disk."""
    used = {key: at // _SECOND_US for key, at in sorted(uses_us.items())}
    durable.write_file(path, msgspec.json.encode(_File(version=1, used=used)))


class Uses:
    """Writes what the directory knows, where that changed. Owner of the file: the process with the lock."""

    def __init__(self, path: Path, directory: Directory) -> None:
        self._path = path
        self._directory = directory
        self._written: dict[str, int] = {}
        self._has_failed = False

    @classmethod
    def recalled(cls, path: Path, directory: Directory, clock: Clock) -> Self:
        """With what the last run left, which the directory is told."""
        directory.remember(load(path, now_us=clock.now_us()))
        uses = cls(path, directory)
        uses._written = directory.uses_us()
        return uses

    async def keep_for_ever(self) -> None:
        """Once a minute, and once more when it is cancelled."""
        try:
            while True:
                await asyncio.sleep(WRITE_SECONDS)
                await self._keep()
        finally:
            await self._keep()

    async def _keep(self) -> None:
        now = self._directory.uses_us()
        if now == self._written:
            return
        try:
            await asyncio.to_thread(store, self._path, now)
        except OSError as error:
            if not self._has_failed:  # once: the disk's own alarms say the rest
                log.warning("key_uses_not_written", error=type(error).__name__)
            self._has_failed = True
            return
        self._has_failed = False
        self._written = now
