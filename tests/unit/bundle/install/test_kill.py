"""`kill -9` behind every line of the journal, and before it, with its work done: somebody comes, and it
serves.

Real processes: the installer ends itself by SIGKILL (`tests.fakes.installer`), the service goes on or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from appliance.bundle.install import steps
from appliance.bundle.install.steps import State, What
from tests.installs import Host

# Every state of an upgrade before it is committed.
_UNDONE = tuple(takewhile(lambda each: each is not State.COMMITTED, steps.PATHS[What.UPGRADE]))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that serves release 1, with the same schema staged as 2 and another one as 3."""
    made = Host(tmp_path_factory.mktemp("kill") / "host")
    made.install()
    made.stage(2)
    made.stage(3, schema="0002")
    yield made
    made.close()


def staged(host: Host, serial: int) -> list[str]:
    return ["upgrade", "--staged", str(host.site.staging / str(serial))]


_DANGEROUS = _UNDONE[_UNDONE.index(State.SMOKE) :]
_POINTS = [
    *((2, str(each)) for each in _DANGEROUS),
    *((3, str(each)) for each in _UNDONE),
    *((3, f"before:{each}") for each in (*_DANGEROUS, State.COMMITTED)),
]


@pytest.mark.parametrize(("serial", "point"), _POINTS)
def test_nothing_that_was_killed_before_its_commit_stays(host: Host, serial: int, point: str) -> None:
    """After each state, and before the lines of the dangerous ones: the old release serves, its record whole.

    `settle`, which the service's start runs, makes it so; with the same schema and with another one.
    """
    host.ask()
    kept = host.entries()
    killed = host.run(*staged(host, serial), kill=point)
    assert killed.returncode == -9, killed.stderr

    settled = host.run("settle")

    assert settled.returncode == 0, settled.stderr
    assert host.current() == 1
    assert host.ask() == 200
    assert host.entries()[: len(kept)] == kept
    assert host.states()[-1] is State.ROLLED_BACK


@pytest.mark.parametrize("point", [State.ROLLING_BACK, f"before:{State.ROLLED_BACK}", State.ROLLED_BACK])
def test_going_back_is_begun_again(host: Host, point: str) -> None:
    """Killed while it goes back from a failed release: it still arrives, with the record as it was."""
    if not (host.site.staging / "4").exists():
        host.stage(4, schema="0002", fails=["health"])
    host.ask()
    kept = host.entries()
    assert host.run(*staged(host, 4), kill=str(point)).returncode == -9

    assert host.run("settle").returncode == 0

    assert host.current() == 1
    assert host.ask() == 200
    assert host.entries()[: len(kept)] == kept
    assert host.states()[-1] is State.ROLLED_BACK


def test_next_call_undoes_and_then_does(host: Host) -> None:
    """Nobody settled: the next upgrade ends what was left, and goes through."""
    host.ask()
    kept = host.entries()
    assert host.run(*staged(host, 4), kill=str(State.SWITCHED)).returncode == -9
    staging = host.stage(5, schema="0005")

    done = host.run("upgrade", "--staged", str(staging))

    assert done.returncode == 0, done.stderr
    assert "was undone first" in done.stderr
    assert host.current() == 5
    assert host.ask() == 200
    assert host.entries()[: len(kept)] == kept


@pytest.mark.parametrize("point", [State.COMMITTED, f"before:{State.TIDIED}"])
def test_what_was_committed_stays(host: Host, point: str) -> None:
    """Killed behind the commit: the new release serves, callers come in, and the tidying is made up for."""
    serial = 6 if point is State.COMMITTED else 7
    schema = f"000{serial}"
    staging = host.stage(serial, schema=schema)
    host.ask()
    kept = host.entries()
    assert host.run("upgrade", "--staged", str(staging), kill=str(point)).returncode == -9

    assert host.run("settle").returncode == 0

    assert host.current() == serial
    assert host.ask() == 200
    assert host.entries()[: len(kept)] == kept
    assert host.states()[-1] is State.TIDIED
    assert not staging.exists()


@pytest.mark.parametrize("point", [State.VENV_BUILT, State.MIGRATED, State.SWITCHED, State.PROBATION])
def test_first_installation_begins_again(tmp_path: Path, point: State) -> None:
    """Killed on a bare host: nothing serves; called again it goes through, and no key was made twice."""
    host = Host(tmp_path / "host")
    try:
        words = ["install", "--staged", str(host.stage(1)), *host.prints()]
        assert host.run(*words, kill=str(point)).returncode == -9
        key = host.site.home / "keys/log.vkey"
        made = key.stat().st_ino if key.exists() else None

        done = host.run(*words)

        assert done.returncode == 0, done.stderr
        assert host.current() == 1
        assert host.ask() == 200
        assert made is None or key.stat().st_ino == made
    finally:
        host.close()
