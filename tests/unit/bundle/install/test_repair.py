"""The operating system brings another Python: the release is built again, off line, from the wheels that were
kept.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.bundle.install import release
from tests.installs import Host
from tests.needed import missing

_OTHERS = [
    Path(f"{base}/python3.{minor}")
    for minor in (11, 12, 13, 14)
    for base in (
        "/usr/bin",
        # Where each version has a folder of its own, the others lie beside the one that runs this.
        *sorted(map(str, Path(sys.base_prefix).parent.glob(f"3.{minor}.*/bin"))),
    )
    if minor != sys.version_info.minor
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "host")
    made.install()
    yield made
    made.close()


def another_python() -> Path:
    """A Python of another minor version than the one that runs this; CI has one."""
    found = next((each for each in _OTHERS if each.exists()), None)
    if found is None:
        missing("this needs a Python of another minor version")
    return found


def lose_python(host: Host) -> None:
    """As after an upgrade of the operating system: the interpreter's own name leads nowhere."""
    program = host.site.current / "venv/bin/python"
    for each in program.parent.glob("python*"):
        each.unlink()
    program.symlink_to("/usr/bin/python3.0")


def test_release_says_what_to_do_when_its_python_is_gone(host: Host) -> None:
    """Any command ends with 3 and the command that mends it; the list of releases says so, too."""
    lose_python(host)
    done = subprocess.run(
        [str(host.site.current / "bin/appliance"), "serve"], check=False, capture_output=True, text=True
    )

    assert done.returncode == 3
    assert "appliance bundle repair" in done.stderr
    assert "its Python is gone" in host.run("list").stdout


def test_release_mends_itself_with_the_python_that_is_there(host: Host) -> None:
    """Its own program, without its environment, builds it again from the store, and goes on."""
    host.ask()
    kept = host.entries()
    lose_python(host)
    done = subprocess.run(
        [str(host.site.current / "bin/appliance"), "bundle", "settle", "--home", "/nowhere"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "was built again" in done.stderr
    assert release.is_runnable(host.site.current.resolve())
    assert host.entries() == kept


def test_other_minor_version_gets_an_environment_of_its_own(host: Host) -> None:
    """From the same wheels, by digest; what was installed is importable there."""
    python = another_python()
    folder = host.site.current.resolve()
    lose_python(host)

    def stored(_path: str, digest: str) -> Path:
        return host.site.store / "sha256" / digest[:2] / digest

    release.build_environment(folder, python, stored)

    version = release.python_of(folder / "venv")
    assert python.name.endswith(version)
    assert (folder / f"venv/lib/python{version}/site-packages/tiny.py").exists()
    assert release.is_runnable(folder)
    subprocess.run([str(folder / "venv/bin/python"), "-I", "-c", "import tiny, appliance"], check=True)


def test_repair_is_on_the_record_and_serves(host: Host) -> None:
    """The command stops, builds, starts; what is whole is left alone."""
    assert "is whole" in host.run("repair").stdout
    lose_python(host)
    done = host.run("repair")

    assert done.returncode == 0, done.stderr
    assert host.ask() == 200
    assert host.told()[-1] == "bundle:repaired"


def test_altered_wheel_is_not_built_with(host: Host) -> None:
    """16 where the store lies, 14 where it lost one; the release is not complete then."""
    lose_python(host)
    folder = host.site.current.resolve()
    name, digest = next(
        (path, digest) for path, digest in release.read_sums(folder).items() if path.startswith("wheels/tiny")
    )
    wheel = host.site.store / "sha256" / digest[:2] / digest
    kept = wheel.read_bytes()
    wheel.write_bytes(kept[:-1] + b"x")
    altered = host.run("repair")
    assert altered.returncode == 16, altered.stderr
    wheel.unlink()
    missing = host.run("repair")
    assert missing.returncode == 14, missing.stderr
    assert Path(name).name in missing.stderr
    assert not release.is_complete(folder)

    wheel.write_bytes(kept)

    assert host.run("repair").returncode == 0
    assert host.ask() == 200
