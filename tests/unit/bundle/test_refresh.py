"""Refreshes: the same files, a later date; and what they have to do with deltas."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bundle import layout, manifest, metadata, roots, signing, verifying
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from tests import signed
from tests.clocks import ManualClock
from tests.signed import Office, install, refusal

DAY = 86_400


def test_expired_bundle_is_refused_until_it_is_refreshed(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """12; with a refresh of the same files it is good again, also on a bare host."""
    bundle = signed.bundle(tmp_path / "b", office, days=30)
    clock.advance(40 * DAY)
    paper = office.prints()
    assert refusal(bundle, site, clock, fingerprints=paper) is Exit.EXPIRED

    later = tmp_path / "later"
    signing.refresh(bundle, office.folder, later, 30, clock.now_us())
    assert refusal(bundle, site, clock, fingerprints=paper, refresh=later) is Exit.BAD_SIGNATURE
    for key in office.some:
        signing.sign(later, key)

    found = install(bundle, site, clock, office, refresh=later)
    assert found.manifest.serial == 1
    assert verifying.verify(bundle, site, clock).expires == found.expires  # it is remembered
    assert sorted(path.name for path in (later / "metadata").iterdir()) == [
        "1.root.json", "1001.snapshot.json", "1001.targets.json", "timestamp.json"
    ]  # fmt: skip


def test_refresh_of_strangers_brings_no_root_of_theirs(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """On a bare host as on one that believes: the same files under another root are refused."""
    bundle = signed.bundle(tmp_path / "b", office)
    strangers = signed.office(tmp_path / "strangers")
    evil = tmp_path / "evil"
    targets, claims = metadata.unsigned(metadata.read(bundle / "metadata"))
    (evil / "metadata").mkdir(parents=True)
    later = metadata.make(targets, claims, 1001, roots.day_of(clock.now_us(), 300))
    for name, data in {**later, "1.root.json": strangers.chain[0]}.items():
        (evil / "metadata" / name).write_bytes(data)
    for key in strangers.some:
        signing.sign(evil, key)

    assert refusal(bundle, site, clock, fingerprints=office.prints(), refresh=evil) is Exit.BAD_SIGNATURE
    install(bundle, site, clock, office)
    assert refusal(bundle, site, clock, refresh=evil) is Exit.BAD_SIGNATURE
    with pytest.raises(BundleRefused) as refused:
        verifying.take_refresh(evil, site, clock)
    assert refused.value.exit is Exit.BAD_SIGNATURE


def test_refresh_alone_is_remembered(office: Office, site: Site, clock: ManualClock, tmp_path: Path) -> None:
    """A host that installed the bundle takes the later date, once; not that of another bundle."""
    bundle = signed.bundle(tmp_path / "b", office, 5, days=30)
    other = signed.bundle(tmp_path / "o", office, 6, days=30)
    later, foreign = tmp_path / "later", tmp_path / "foreign"
    for of, out in ((bundle, later), (other, foreign)):
        signing.refresh(of, office.folder, out, 300, clock.now_us())
        for key in office.some:
            signing.sign(out, key)
    with pytest.raises(BundleRefused):
        verifying.take_refresh(later, site, clock)  # nobody is believed yet
    install(bundle, site, clock, office)

    with pytest.raises(BundleRefused) as refused:
        verifying.take_refresh(foreign, site, clock)
    assert refused.value.exit is Exit.BAD_METADATA
    before = verifying.verify(bundle, site, clock).expires
    taken = verifying.take_refresh(later, site, clock)
    assert taken.expires > before
    assert verifying.take_refresh(later, site, clock).expires == taken.expires
    clock.advance(100 * DAY)
    assert verifying.verify(bundle, site, clock).expires == taken.expires


def test_serial_is_remembered_when_the_refresh_is_not_believed_any_more(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """The bundle's signers stay, one of the refresh's goes: what they vouched for still counts."""
    bundle = signed.bundle(tmp_path / "10", office, 10)
    install(bundle, site, clock, office)
    later = tmp_path / "later"
    signing.refresh(bundle, office.folder, later, 900, clock.now_us())
    for name in ("theo", "tomo"):
        signing.sign(later, office.targets_keys[name])
    verifying.take_refresh(later, site, clock)
    del office.targets_keys["tomo"]
    office.targets_keys |= signed.people("tess")
    office.publish()

    assert refusal(signed.bundle(tmp_path / "9", office, 9), site, clock) is Exit.DOWNGRADE
    assert install(signed.bundle(tmp_path / "11", office, 11), site, clock).manifest.serial == 11


def test_full_bundle_and_delta_of_one_serial_follow_each_other(
    office: Office, site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """In any order, refreshed or not: neither is older than the other, and one's refresh is the other's."""
    full = signed.bundle(tmp_path / "full", office, 5, days=30)
    delta = signed.delta(tmp_path / "delta", office, 5, days=30)
    blob = manifest.parse((delta / layout.MANIFEST).read_bytes()).blobs[0]
    held = tmp_path / "held"
    held.write_bytes(b"".join((full / path).read_bytes() for path in blob.paths))
    present = {blob.sha256: held}
    later = tmp_path / "later"
    signing.refresh(full, office.folder, later, 300, clock.now_us())
    for key in office.some:
        signing.sign(later, key)

    assert refusal(delta, site, clock, fingerprints=office.prints()) is Exit.MISSING
    install(delta, site, clock, office, present=present)
    install(full, site, clock)
    install(delta, site, clock, present=present)
    verifying.take_refresh(later, site, clock)
    assert install(full, site, clock).expires > install(delta, site, clock, present=present).expires
    clock.advance(40 * DAY)
    assert refusal(delta, site, clock, present=present) is Exit.EXPIRED
    assert install(full, site, clock, refresh=later).manifest.kind == "full"
    assert refusal(signed.bundle(tmp_path / "4", office, 4), site, clock) is Exit.DOWNGRADE


def test_versions_leave_room_for_refreshes(office: Office, tmp_path: Path, clock: ManualClock) -> None:
    """A refresh is newer than its bundle and older than the next; of an unsigned bundle there is none."""
    bundle = signed.build(tmp_path / "b", 7)
    signing.start(bundle, office.folder, 30)
    with pytest.raises(BundleRefused) as refused:
        signing.refresh(bundle, office.folder, tmp_path / "r", 30, clock.now_us())
    assert refused.value.exit is Exit.BAD_SIGNATURE
    for key in office.some:
        signing.sign(bundle, key)
    signing.refresh(bundle, office.folder, tmp_path / "r", 30, clock.now_us())

    version = metadata.version_of((tmp_path / "r/metadata/timestamp.json").read_bytes())
    assert 7000 < version < 8000
    assert roots.read(tmp_path / "r/metadata") == office.chain
