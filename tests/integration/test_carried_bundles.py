"""A signed bundle on media, copied to a host, verified there and taken into the store; then a delta."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.bundle import (
    copying,
    delta,
    folder,
    inventory,
    layout,
    media,
    signing,
    store,
    trusted,
    verifying,
)
from appliance.bundle.copying import Taken
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.trusted import Verified
from tests import signed
from tests import volumes as made
from tests.clocks import ManualClock
from tests.signed import Office


@pytest.fixture
def who(tmp_path: Path) -> Office:
    return signed.office(tmp_path / "roots")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "host")


def verified(taken: Taken, site: Site, who: Office) -> Verified:
    return verifying.verify(
        taken.staging,
        site,
        ManualClock(signed.NOW_US),
        fingerprints=who.prints()[:2],
        present=taken.present,
        machine="x86_64",
    )


def installed(bundle: Path, site: Site, who: Office) -> None:
    """As far as trust and the store go."""
    taken = copying.take([bundle], site)
    found = verified(taken, site, who)
    store.adopt(site, taken.staging, found.manifest)
    trusted.accept(site, found, signed.NOW_US)


@pytest.mark.parametrize("name", ["none", "fat32", "diode", "disc"])
def test_volumes_are_copied_and_verified(name: str, who: Office, site: Site, tmp_path: Path) -> None:
    """What was cut is what was signed, whatever carried it."""
    bundle = signed.bundle(tmp_path / "bundle", who)
    out = tmp_path / "out"
    folders = made.discs(bundle, out) if name == "disc" else media.split(bundle, out, media.PRESETS[name])
    for each in reversed(folders):
        taken = copying.take([each], site)
    found = verified(taken, site, who)

    assert found.manifest.serial == 1
    assert made.files(taken.staging) == made.files(bundle)
    store.adopt(site, taken.staging, found.manifest)
    assert store.held(site) == store.needed(found.manifest)


def test_delta_is_signed_copied_and_verified_with_the_store(who: Office, site: Site, tmp_path: Path) -> None:
    """The verification reads the base once more, as it reads what was carried in."""
    installed(signed.bundle(tmp_path / "one", who), site, who)
    full = signed.build(tmp_path / "two", serial=2)
    folder.seal(full)
    smaller = delta.delta(full, inventory.take_stock(site).inventory, tmp_path / "delta")
    signing.start(smaller, who.folder, 700)
    for key in who.some:
        signing.sign(smaller, key)
    (volume,) = media.split(smaller, tmp_path / "stick", media.PRESETS["fat32"])
    taken = copying.take([volume], site)
    found = verified(taken, site, who)
    assert found.manifest.kind == "delta"
    assert len(taken.present) == 2

    place = store.place(site, found.manifest.blobs[0].sha256)
    place.write_bytes(bytes(found.manifest.blobs[0].size))
    with pytest.raises(BundleRefused) as caught:
        verified(taken, site, who)
    assert caught.value.exit is Exit.WRONG_DIGEST


def test_first_volume_is_checked_on_a_bare_host(who: Office, tmp_path: Path) -> None:
    """`verify.sh --volume` with openssl and coreutils alone; then all discs in one folder."""
    bundle = signed.bundle(tmp_path / "bundle", who)
    first, *others = made.discs(bundle, tmp_path / "out")
    staged = made.burn(first, tmp_path / "bare")

    def check(*options: str) -> int:
        command = ["sh", "verify.sh", *options, *who.prints()[:2]]
        return subprocess.run(command, cwd=staged, capture_output=True, check=False).returncode

    assert check("--volume") == Exit.DONE
    assert check() == Exit.WRONG_DIGEST  # its own lists are no files of the bundle
    for other in others:
        shutil.copytree(other, staged, dirs_exist_ok=True)
    for own in [*staged.glob("VOLUME-*"), staged / "volume.json"]:
        own.unlink()
    assert check() == Exit.DONE
    assert made.files(staged) == made.files(bundle)
    (staged / layout.LOCK).write_text("another\n")
    assert check() == Exit.WRONG_DIGEST
