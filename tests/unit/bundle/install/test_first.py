"""`install.sh` on a bare host: copies, has the copy checked, builds the release, hands over."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.bundle.install import release as releases
from tests import installs
from tests.installs import Host

ROOT = Path(__file__).parents[4]
SCRIPT = ROOT / "deploy/install.sh"


def medium(tmp_path: Path, host: Host) -> Path:
    """A stick: the bundle with the real scripts, and what operating systems leave on sticks."""
    place = installs.release(tmp_path / "stick", host.who, 1)
    (place / "System Volume Information").mkdir()
    (place / ".Trashes").write_bytes(b"x")
    return place


def run(place: Path, host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(place / "install.sh"), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROOT": str(host.root), "PIP_INDEX_URL": "http://trap"},
    )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


def test_stick_becomes_a_release_whose_program_goes_on(tmp_path: Path, host: Host) -> None:
    """The copy is whole, the release complete, and its own program is called with the fingerprints and
    options.
    """
    place = medium(tmp_path, host)
    prints = host.who.prints()[:2]
    done = run(place, host, *prints, "--", "--profile", "dev")
    folder = host.site.release(1, "1.1.0")

    assert done.returncode == 0, done.stderr
    assert releases.is_complete(folder, releases.sums_digest(place))
    words = json.loads(done.stdout.splitlines()[-1])["words"]
    assert words[:4] == ["bundle", "install", "--staged", str(host.site.staging / "first")]
    assert words[-2:] == ["--profile", "dev"]
    assert {words[at + 1] for at, word in enumerate(words) if word == "--fingerprint"} == set(prints)
    assert not (host.site.staging / "first/.Trashes").exists()


def test_altered_stick_is_refused_before_anything_of_it_runs(tmp_path: Path, host: Host) -> None:
    """16 for a changed byte, 15 for a fingerprint that did not sign; no release is there then."""
    place = medium(tmp_path, host)
    prints = host.who.prints()[:2]
    wrong = run(place, host, prints[0], "0" * 64)
    assert wrong.returncode == 15, wrong.stderr
    program = place / "app/appliance/__main__.py"
    program.write_bytes(program.read_bytes() + b"#")

    altered = run(place, host, *prints)

    assert altered.returncode == 16, altered.stderr
    assert not host.site.releases.exists()


def test_several_volumes_are_copied_one_after_the_other(tmp_path: Path, host: Host) -> None:
    """Parts of a model on another medium: without them 14, with them good."""
    place = medium(tmp_path, host)
    second = tmp_path / "second"
    shutil.copytree(place / "blobs", second / "blobs")
    shutil.copy(place / "install.sh", second / "install.sh")
    listed = [line for line in (place / "SHA256SUMS").read_text().splitlines() if "  blobs/" in line]
    (second / "VOLUME-02.SHA256SUMS").write_text("".join(f"{line}\n" for line in listed))
    shutil.rmtree(place / "blobs")
    prints = host.who.prints()[:2]
    assert run(place, host, *prints).returncode == 14

    copied = run(second, host, "--volume")

    assert copied.returncode == 0, copied.stderr
    done = run(place, host, *prints)
    assert done.returncode == 0, done.stderr


def test_host_with_a_release_upgrades_instead(tmp_path: Path, host: Host) -> None:
    """20, with the command that does."""
    place = medium(tmp_path, host)
    host.site.releases.mkdir(parents=True)
    host.site.current.symlink_to(host.site.releases)
    done = run(place, host, *host.who.prints()[:2])

    assert done.returncode == 20
    assert "appliance bundle upgrade" in done.stderr
