"""Last use: told again after a restart, and never a reason not to start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from appliance.accounts import keys, uses
from appliance.accounts.directory import Directory
from appliance.accounts.keys import NewKey
from appliance.accounts.uses import Uses
from appliance.core import Role
from tests.clocks import ManualClock


@pytest.fixture
def lobby(clock: ManualClock) -> NewKey:
    return keys.generate("lobby", Role.KIOSK, now_us=clock.now_us())


async def run_once(path: Path, directory: Directory, clock: ManualClock, *tokens: str) -> None:
    """A run in which these tokens are presented."""
    kept = Uses.recalled(path, directory, clock)
    for each in tokens:
        directory.authenticate(each, now_us=clock.now_us())
    task = asyncio.create_task(kept.keep_for_ever())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_last_use_is_known_after_a_restart(tmp_path: Path, clock: ManualClock, lobby: NewKey) -> None:
    """To the second; what was used since counts."""
    path = tmp_path / "uses"
    await run_once(path, Directory([lobby.key]), clock, lobby.token)
    used_us = clock.now_us()
    clock.advance(500)
    later = Directory([lobby.key])

    await run_once(path, later, clock)

    assert later.last_use_us(lobby.key.id) == used_us // 1_000_000 * 1_000_000
    assert path.stat().st_mode & 0o777 == 0o600
    clock.advance(500)
    later.authenticate(lobby.token, now_us=clock.now_us())
    assert later.last_use_us(lobby.key.id) == clock.now_us()


async def test_nothing_is_written_where_nobody_came(
    tmp_path: Path, clock: ManualClock, lobby: NewKey
) -> None:
    """A box that nobody uses writes nothing each minute."""
    await run_once(tmp_path / "uses", Directory([lobby.key]), clock)

    assert not (tmp_path / "uses").exists()


async def test_nothing_is_known_of_keys_that_are_not_there(
    tmp_path: Path, clock: ManualClock, lobby: NewKey
) -> None:
    """Behind a restored database the file is about others."""
    await run_once(tmp_path / "uses", Directory([lobby.key]), clock, lobby.token)
    other = Directory()

    await run_once(tmp_path / "uses", other, clock)

    assert other.uses_us() == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"version":2,"used":{}}',
        b'{"version":1,"used":{"lobby":1}}',
        b'{"version":1,"used":{"abcdefghij":-1}}',
        b'{"version":1,"used":{"abcdefghij":1},"more":1}',
        b" " * (uses.MAX_BYTES + 1),
    ],
)
def test_a_file_that_is_none_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    """It is warned about, and nobody is kept from starting."""
    path = tmp_path / "uses"
    path.write_bytes(data)

    with capture_logs() as logs:
        assert uses.load(path, now_us=1 << 60) == {}

    assert [each["event"] for each in logs] == ["key_uses_unreadable"]


def test_a_use_that_lies_ahead_is_not_believed(tmp_path: Path) -> None:
    """A clock that was wrong once does not leave its mark for ever."""
    path = tmp_path / "uses"
    uses.store(path, {"abcdefghij": 5_000_000, "bcdefghijk": 9_000_000})

    assert uses.load(path, now_us=6_000_000) == {"abcdefghij": 5_000_000}


async def test_a_disk_that_refuses_stops_nobody(tmp_path: Path, clock: ManualClock, lobby: NewKey) -> None:
    """The file is advice: without it, calls are answered as before."""
    with capture_logs() as logs:
        await run_once(tmp_path / "nowhere" / "uses", Directory([lobby.key]), clock, lobby.token)

    assert [each["event"] for each in logs] == ["key_uses_not_written"]
