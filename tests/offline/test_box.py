"""The box itself: bare, alone, and gone when it is closed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.offline.box import Box, TookTooLong, box
from tests.offline.roots import SYSTEMS, System

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=SYSTEMS, ids=lambda each: each.suite)
def bare(request: pytest.FixtureRequest, root_of: dict[System, Path], tmp_path: Path) -> Box:
    return Box([root_of[request.param]], tmp_path / "box")


def test_a_root_is_the_system_that_it_says(root_of: dict[System, Path]) -> None:
    """Debian 12 brings Python 3.11, Debian 13 brings 3.13."""
    for system, root in root_of.items():
        assert f"VERSION_CODENAME={system.suite}" in (root / "etc/os-release").read_text()
        assert (root / "usr/bin/python3").resolve().name == f"python{system.python}"


def test_a_root_has_what_the_system_brings_and_nothing_of_this_host(bare: Box) -> None:
    """Openssl and python3 are there; compilers, pip, curl and package sources are not."""
    bare.start()
    try:
        found = bare.run(
            "sh",
            "-c",
            "for each in openssl python3 gcc pip curl wget ip zstd; do command -v $each; done; true",
        )
        sources = bare.run("sh", "-c", "cat /etc/apt/sources.list /etc/resolv.conf", expect=None)
    finally:
        bare.close()

    assert found.out.split() == ["/usr/bin/openssl", "/usr/bin/python3"]
    assert sources.out == ""


def test_nothing_of_this_process_reaches_a_box(bare: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its environment nor its processes nor its files."""
    monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere")
    bare.start()
    try:
        environment = bare.run("env").out
        processes = bare.run("sh", "-c", "ls -d /proc/[0-9]*").out.split()
        here = bare.run("ls", str(Path(__file__).parent), expect=2)
    finally:
        bare.close()

    assert "PIP_" not in environment
    assert "/proc/1" in processes
    assert len(processes) < 5
    assert "No such file" in here.err


def test_what_a_box_starts_ends_with_it_and_what_it_wrote_stays(bare: Box) -> None:
    """A power cut: a daemon of the box is gone, and a file is there at the next boot."""
    bare.start()
    bare.run(
        "sh",
        "-c",
        "echo kept > /var/lib/kept; sleep 300 & while [ $(cat /proc/$!/comm) != sleep ]; do :; done",
    )
    sleeping = [pid for pid, line in bare.processes().items() if line == "sleep 300"]
    bare.close()
    bare.start()
    try:
        kept = bare.run("cat", "/var/lib/kept").out
        after = bare.processes()
    finally:
        bare.close()

    assert len(sleeping) == 1
    assert not Path(f"/proc/{sleeping[0]}").exists()
    assert (kept, after) == ("kept\n", {})


def test_a_daemon_that_ends_is_no_zombie(bare: Box) -> None:
    """Process 1 reaps what others leave behind: scripts that wait for a process to be gone can end."""
    script = "sh -c 'sleep 0.1 & echo $!' > /run/pid; while kill -0 $(cat /run/pid) 2> /dev/null; do :; done"
    bare.start()
    try:
        bare.run("sh", "-c", script, seconds=20)
    finally:
        bare.close()


def test_a_command_that_hangs_is_ended(bare: Box) -> None:
    """Its time is its time; the box is closed with it."""
    bare.start()
    began = time.monotonic()
    with pytest.raises(TookTooLong):
        bare.run("sleep", "100", seconds=1)

    assert time.monotonic() - began < 30
    assert not Path(f"/proc/{bare.pid}").exists()


def test_a_medium_can_be_read_and_not_written(root_of: dict[System, Path], tmp_path: Path) -> None:
    """As a stick with its switch on."""
    medium = tmp_path / "stick"
    medium.mkdir()
    (medium / "file").write_text("content")
    with box([root_of[SYSTEMS[0]]], tmp_path / "box", media={"stick": medium}) as made:
        assert made.run("cat", "/media/stick/file").out == "content"
        assert "Read-only" in made.run("touch", "/media/stick/file", expect=1).err
