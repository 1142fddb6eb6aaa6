"""Carrying a bundle in, while the host is killed, its disk runs full, and a disc can not be read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from appliance.bundle import copying, store
from appliance.bundle.layout import Site
from appliance.bundle.refusals import Exit
from tests import volumes as made
from tests.fault.strace import ROOT, require_strace
from tests.needed import missing, need

# Each changes the disk, and between any two the machine may stop.
_CALLS = "fsync,rename,unlink,linkat,copy_file_range,mkdir,fchmod"
_POINTS = 14


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return made.signed(tmp_path / "bundle")


@pytest.fixture
def discs(bundle: Path, tmp_path: Path) -> list[Path]:
    return made.discs(bundle, tmp_path / "out")


def carried(scenario: str, site: Site, volumes: list[Path]) -> list[str]:
    program = [sys.executable, "-B", "-m", "tests.fault.carried", scenario]
    return [*program, str(site.root), *map(str, volumes)]


def in_own_mounts(script: str, arguments: list[str]) -> list[dict[str, Any]]:
    """Run shell and then a program where no mount is seen outside; what the program told."""
    who = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    shell = [
        need("unshare", package="util-linux"),
        *who,
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-euc",
        f'{script}\nexec "$@"',
        "sh",
    ]
    done = subprocess.run(
        [*shell, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    if done.returncode == 1 and done.stderr.startswith("unshare:"):
        missing(f"no mount namespace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_killed_at_any_point_it_goes_on(bundle: Path, discs: list[Path], tmp_path: Path) -> None:
    """With kill -9 at system calls from the first file to the joined model; then the same command."""
    strace = require_strace()

    def run(site: Site, *inject: str) -> subprocess.CompletedProcess[str]:
        options = ["-f", "-qq", "-o", str(tmp_path / "strace"), "-e", f"trace={_CALLS}", *inject]
        return subprocess.run(
            [strace, *options, *carried("whole", site, discs)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    done = run(Site(tmp_path / "control"))
    assert done.returncode == 0, done.stderr[-2000:]
    calls = _calls((tmp_path / "strace").read_text())
    assert len(calls) > 100
    for number in range(_POINTS):
        site = Site(tmp_path / f"host-{number}")
        name, nth = calls[number * (len(calls) - 1) // (_POINTS - 1)]
        done = run(site, "-e", f"inject={name}:signal=SIGKILL:when={nth}")
        assert done.returncode in {-9, 137}, (name, nth, done.stderr)
        taken = copying.take(discs, site)
        assert taken.missing == ()
        assert taken.manifest is not None
        assert made.files(taken.staging).items() <= made.files(bundle).items()
        store.adopt(site, taken.staging, taken.manifest)
        assert store.held(site) == store.needed(taken.manifest)
        for digest in store.held(site):
            store.verify(site, digest)


def _calls(log: str) -> list[tuple[str, int]]:
    """Each call of a whole run with which of its name it was, as strace counts them."""
    counted: Counter[str] = Counter()
    found = []
    for name in re.findall(r"^\d+ +(\w+)\(", log, re.MULTILINE):
        counted[name] += 1
        found.append((name, counted[name]))
    return found


def test_disk_that_is_too_small_is_told_before_it_is_full(discs: list[Path], tmp_path: Path) -> None:
    """Both numbers stand in the message, and no part of a model was copied in vain."""
    site = Site(tmp_path / "host")
    site.staging.mkdir(parents=True)
    (told,) = in_own_mounts(
        f"mount -t tmpfs -o size=1m none {site.staging}", carried("whole", site, discs[:1])
    )

    assert told["exit"] == Exit.DISK
    assert re.search(r"16\.\d MB are needed on the disk of .*staging, 1\.0\d MB are free", told["message"])
    assert "run the same command again" in told["hint"]


def test_disk_that_runs_full_midway_loses_one_file(discs: list[Path], tmp_path: Path) -> None:
    """Somebody else's file takes the last byte during the copy; once that is gone, it goes on."""
    site = Site(tmp_path / "host")
    site.staging.mkdir(parents=True)
    first, second = in_own_mounts(
        f"mount -t tmpfs -o size=24m none {site.staging}", carried("filled midway", site, discs)
    )

    assert first["exit"] == Exit.DISK
    assert re.search(r"the disk of .* is full: \d+ B are free", first["message"])
    assert second["exit"] == 0
    assert second["missing"] == []
    assert 0 < second["copied"] < len(made.files(tmp_path / "bundle"))


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="a scratched disc needs a loop device"
)
def test_scratched_disc_gives_what_can_be_read(bundle: Path, discs: list[Path], tmp_path: Path) -> None:
    """A device that answers EIO for its end: the file is named, the rest kept, another disc helps."""
    site = Site(tmp_path / "host")
    copying.take([discs[0]], site)
    image, mounted = tmp_path / "disc.img", tmp_path / "drive"
    mounted.mkdir()
    small = made.burn(discs[1], tmp_path / "small")
    shutil.rmtree(small / "blobs")
    subprocess.run(
        ["mkfs.ext4", "-q", "-O", "^has_journal", "-d", small.parent, image, "8M"],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    # Parts are written last, so that they lie behind everything else.
    in_own_mounts(
        f"mount -o loop {image} {mounted}; cp -r {discs[1]}/blobs {mounted}/*.vol02; umount {mounted}",
        ["true"],
    )
    data = image.read_bytes()
    begins = {path: data.find(path.read_bytes()) for path in discs[1].rglob("*.p*")}
    last = max(begins, key=begins.__getitem__)
    assert begins[last] > 0
    (told,) = in_own_mounts(
        f"mount -o loop,ro {image} {mounted}; truncate -s {begins[last]} {image}",
        carried("whole", site, [mounted / discs[1].name]),
    )

    assert told["exit"] == Exit.DISK
    assert last.name in told["message"]
    assert "Input/output error" in told["message"]
    now = copying.state(site, 1)
    assert now is not None
    second = next(each for each in now.missing if each.volume == 2)
    assert second.paths == (str(last.relative_to(discs[1])),)

    taken = copying.take(discs[1:], site)
    assert taken.missing == ()
    assert made.files(taken.staging) == made.files(bundle)
