"""`appliance bundle split|import|inventory|delta`, as an operator types them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.bundle import manifest, store
from appliance.bundle.layout import Site
from appliance.bundle.refusals import Exit
from tests import bundles
from tests import volumes as made
from tests.harness import appliance


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "host"
    place.mkdir()
    return place


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return appliance(*map(str, arguments), check=False)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_bundle_is_cut_carried_and_asked_for(root: Path, tmp_path: Path) -> None:
    """Exit code 14 while a disc is missing, and 0 with the last one."""
    bundle, out = made.signed(tmp_path / "bundle"), tmp_path / "out"
    size = made.room_for(bundle)
    done = run("bundle", "split", bundle, "--out", out, "--media", "none", "--size", f"{size}B", "--json")
    volumes = [each["volume"] for each in told(done)["volumes"]]
    assert len(volumes) == 2

    done = run("bundle", "import", volumes[1], "--root", root)
    assert done.returncode == Exit.MISSING
    assert "missing: volume 1\n" in done.stdout
    done = run("bundle", "import", "--root", root, "--json")
    assert done.returncode == Exit.MISSING
    assert [each["volume"] for each in told(done)["unfinished"][0]["missing"]] == [1]
    done = run("bundle", "import", *volumes, "--root", root, "--json")
    assert done.returncode == 0, done.stderr
    assert told(done)["missing"] == []
    assert told(done)["release"] == "1.0.0"
    assert made.files(Path(told(done)["staging"])) == made.files(bundle)
    assert run("bundle", "import", "--root", root).stdout == "no import is unfinished\n"


def test_refusals_end_with_their_codes(root: Path, tmp_path: Path) -> None:
    """A script can tell an altered disc from an empty drive."""
    (volume, *_) = made.discs(made.signed(tmp_path / "bundle"), tmp_path / "out")
    disc = made.burn(volume, tmp_path / "in")
    (disc / "README.txt").unlink()
    (disc / "README.txt").write_text("another one, by me")
    done = run("bundle", "import", disc, "--root", root)
    assert done.returncode == Exit.WRONG_DIGEST
    assert "README.txt" in done.stderr
    assert "appliance: hint:" in done.stderr

    (tmp_path / "mnt").mkdir()
    assert run("bundle", "import", tmp_path / "mnt", "--root", root).returncode == Exit.MISSING
    assert run("bundle", "import", "--discard", "1", "--root", root).returncode == 0
    assert not (Site(root).staging / "1").exists()


def test_delta_goes_round(root: Path, tmp_path: Path) -> None:
    """The host's inventory, the connected side's delta, and the host again."""
    site = Site(root)
    old = bundles.tiny(tmp_path / "old", model=made.model())
    new = bundles.tiny(tmp_path / "new", serial=2, release="1.1.0", model=made.model())
    done = run("bundle", "import", old, "--root", root)
    assert done.returncode == 0, done.stderr
    assert "now verify and install them" in done.stdout
    taken = manifest.parse((site.staging / "1" / "manifest.json").read_bytes())
    store.adopt(site, site.staging / "1", taken)
    listed = tmp_path / "host.inventory"
    done = run("bundle", "inventory", "--root", root, "--out", listed, "--json")
    assert told(done)["held"] == 2
    assert run("bundle", "inventory", "--root", root).stdout == listed.read_text()
    assert run("bundle", "inventory", "--root", root, "--out", listed).returncode == 2

    done = run("bundle", "delta", new, "--inventory", listed, "--out", tmp_path / "delta", "--json")
    assert told(done)["omitted"] == 2
    assert told(done)["bytes"] < told(done)["full_bytes"] - len(made.model())
    done = run("bundle", "import", tmp_path / "delta", "--root", root, "--json")
    assert len(told(done)["present"]) == 2
    done = run("bundle", "delta", new, "--base", old, "--out", tmp_path / "same")
    assert done.returncode == 0
    assert (tmp_path / "same" / "SHA256SUMS").read_text() != (new / "SHA256SUMS").read_text()


def test_usage_is_explained(root: Path, tmp_path: Path) -> None:
    """Two answers to one question, none, and a size that is none."""
    bundle = made.signed(tmp_path / "bundle")
    out = tmp_path / "out"

    def code(*arguments: object) -> int:
        return run("bundle", *arguments).returncode

    assert code("split", bundle, "--out", out, "--media", "fat32", "--size", "29GB", "--stick", root) == 2
    assert code("split", bundle, "--out", out, "--media", "fat32", "--size", "many") == 2
    assert code("split", bundle, "--out", out, "--media", "paper") == 2
    assert code("split", tmp_path / "nothing", "--out", out, "--media", "none") == 2
    assert code("split", root, "--out", out, "--media", "none") == Exit.MISSING
    assert code("delta", bundle, "--out", out) == 2
    assert code("import", bundle, "--discard", "1", "--root", root) == 2
    assert not out.exists()
    assert code("split", bundle, "--out", out, "--media", "fat32", "--stick", root) == 0
