"""The guide to media, executed: its commands as they stand, on a small bundle and a host's root."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.bundle import copying, manifest, media, store
from appliance.bundle.layout import Site
from appliance.bundle.refusals import Exit
from tests import bundles, signed
from tests import volumes as made
from tests.harness import PROGRAM

GUIDE = (signed.DEPLOY / "guides/media.md").read_text()
NEW = "build/appliance-2.5.0-linux-x86_64"
OLD = "build/appliance-2.4.0-linux-x86_64"
BUNDLE = "appliance-2.4.0-linux-x86_64"


def blocks(section: str, language: str) -> str:
    text = GUIDE.split(f"## {section}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """The folder that commands are typed in."""
    made.signed(tmp_path / BUNDLE, release="2.4.0", serial=37)
    (tmp_path / "host").mkdir()
    return tmp_path


def typed(line: str, desk: Path, **places: Path) -> subprocess.CompletedProcess[str]:
    """A command of the guide, with the places that tests have in place of mounted media."""
    words = shlex.split(line)
    assert words[:2] == ["appliance", "bundle"]
    words = [str(places.get(word.strip("/").replace("/", "_"), word)) for word in words[1:]]
    root = ["--root", "host"] if words[1] in {"import", "inventory"} else []
    return subprocess.run(
        [str(PROGRAM), *words, *root], cwd=desk, capture_output=True, text=True, timeout=60, check=False
    )


def test_sticks_and_discs_of_the_guide_arrive(desk: Path) -> None:
    """Cut, checked with coreutils, imported by naming the mount point, and discarded."""
    for section, out, mounted in (("Sticks", "sticks", "media_usb"), ("Discs", "discs", "media_cdrom")):
        split, imported = filter(None, blocks(section, "sh").splitlines())
        assert typed(split, desk).returncode == 0
        if section == "Sticks":
            check = blocks(section, "text").replace("/media/usb", str(desk / out))
            assert subprocess.run(["sh", "-c", check], check=False).returncode == 0
        done = typed(imported, desk, **{mounted: desk / out})
        assert done.returncode == 0, done.stderr
        assert made.files(desk / "host/var/lib/appliance/staging/37") == made.files(desk / BUNDLE)
        (discard,) = blocks("A missing or damaged disc", "sh").splitlines()
        assert typed(discard, desk).returncode == 0
        assert not (desk / "host/var/lib/appliance/staging/37").exists()


def test_diode_of_the_guide_arrives(desk: Path) -> None:
    """With the program, and by hand where there is none."""
    (split,) = blocks("Diodes", "sh").splitlines()
    assert typed(split, desk).returncode == 0
    taken = copying.take([desk / "diode"], Site(desk / "host"))
    assert taken.missing == ()

    staged = desk / "staged"
    for volume in sorted((desk / "diode").iterdir()):
        shutil.copytree(volume, staged, dirs_exist_ok=True)
    for own in [*staged.glob("VOLUME-*"), staged / "volume.json"]:
        own.unlink()
    by_hand = blocks("Diodes", "text")
    assert subprocess.run(["sh", "-euc", by_hand], cwd=staged, check=False).returncode == 0
    assert made.files(staged) == made.files(desk / BUNDLE)


def test_bare_host_of_the_guide_verifies(tmp_path: Path) -> None:
    """All volumes in one folder, what the media say of themselves removed, then `verify.sh`."""
    who = signed.office(tmp_path / "roots")
    bundle = signed.bundle(tmp_path / "bundle", who)
    for number, volume in enumerate(made.discs(bundle, tmp_path / "out")):
        made.burn(volume, tmp_path / "media" / str(number))
    script = blocks("A bare host", "text").replace("/media/", f"{tmp_path}/media/").replace("2.4.0", "1.0.0")
    first, second = who.prints()[:2]
    script = script.replace("FINGERPRINT FINGERPRINT", f"{first} {second}")
    done = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert made.files(tmp_path / "staged") == made.files(bundle)


def test_deltas_of_the_guide_are_made(desk: Path) -> None:
    """From the host's own file, and from what all hosts have."""
    for path, serial in ((OLD, 37), (NEW, 38)):
        (desk / path).parent.mkdir(exist_ok=True)
        bundles.tiny(desk / path, serial=serial, release=f"2.{serial - 33}.0", model=made.model())
    site = Site(desk / "host")
    taken = copying.take([desk / OLD], site)
    assert taken.manifest is not None
    store.adopt(site, taken.staging, taken.manifest)
    for line in blocks("Deltas", "sh").splitlines():
        if line:
            done = typed(line, desk)
            assert done.returncode == 0, done.stderr

    for name in ("appliance-2.5.0-delta", "for-all-on-2.4.0"):
        smaller = manifest.parse((desk / name / "manifest.json").read_bytes())
        assert smaller.delta is not None
        assert len(smaller.delta.omitted) == 2


def test_tables_of_the_guide_are_the_programs_own() -> None:
    """Every preset with its size, and every code that an import ends with."""
    for name, preset in media.PRESETS.items():
        (row,) = re.findall(rf"^\| `{name}` \| (.*?) \|", GUIDE, re.MULTILINE)
        if preset.payload_bytes is not None:
            value, unit = row.split()
            assert round(float(value) * {"GB": 1e9, "MB": 1e6}[unit]) == preset.payload_bytes
    codes = {int(each) for each in re.findall(r"^\| (\d+) \|", GUIDE, re.MULTILINE)}
    wanted = {
        Exit.DONE,
        Exit.BAD_METADATA,
        Exit.MISSING,
        Exit.WRONG_DIGEST,
        Exit.BAD_BASE,
        Exit.DISK,
        Exit.BUSY,
    }
    assert codes == {int(each) for each in wanted}
