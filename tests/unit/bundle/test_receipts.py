"""Receipts: evidence that a check was made here, which nobody can edit afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.bundle import receipts, trusted, verifying
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.trusted import Verified
from tests import signed
from tests.clocks import ManualClock


@pytest.fixture
def verified(site: Site, clock: ManualClock, tmp_path: Path) -> Verified:
    office = signed.office(tmp_path / "roots")
    bundle = signed.bundle(tmp_path / "b", office, 6)
    found = verifying.verify(bundle, site, clock, fingerprints=office.prints())
    trusted.accept(site, found, clock.now_us())
    return found


def test_receipt_tells_who_when_what_and_on_whose_word(
    site: Site, verified: Verified, clock: ManualClock
) -> None:
    """And is good under this host's own key, which only root reads."""
    path = receipts.write(site, verified, "verified", "olga", clock.now_us())
    (found,) = receipts.read(site)

    assert found.is_good
    assert found.receipt is not None
    assert receipts.fields(found.receipt) | {"tool": ""} == {
        "format": "appliance-receipt/1",
        "what": "verified",
        "who": "olga",
        "when": "2026-09-21T14:13:20Z",
        "serial": 6,
        "release": "1.0.0",
        "key_ids": verified.key_ids,
        "signers": ("tara", "theo"),
        "sums_sha256": verified.sums_sha256,
        "files": verified.num_files,
        "bytes": verified.num_bytes,
        "tool": "",
    }
    assert path.name == "20260921T141320Z-6-verified.json"
    assert (site.trust / "receipts.key").stat().st_mode & 0o777 == 0o600


def test_receipts_are_kept_in_order_and_never_overwritten(
    site: Site, verified: Verified, clock: ManualClock
) -> None:
    """Two of one second have two names."""
    assert receipts.read(site) == []
    for what in ("verified", "verified", "installed"):
        receipts.write(site, verified, what, "olga", clock.now_us())
    clock.advance(60)
    receipts.write(site, verified, "rolled_back", "olga", clock.now_us())
    found = receipts.read(site)

    assert sorted(each.receipt.what for each in found if each.receipt) == [
        "installed", "rolled_back", "verified", "verified"
    ]  # fmt: skip
    assert found[-1].receipt is not None
    assert found[-1].receipt.what == "rolled_back"
    assert all(each.is_good for each in found)


def test_edited_and_foreign_receipts_are_not_good(
    site: Site, verified: Verified, clock: ManualClock, tmp_path: Path
) -> None:
    """15 for an edit, 11 for what is no receipt; one of another host is no receipt of this one."""
    path = receipts.write(site, verified, "verified", "olga", clock.now_us())
    good = path.read_bytes()
    for bad, code in (
        (good.replace(b"olga", b"otto"), Exit.BAD_SIGNATURE),
        (good.replace(b'"who":"olga"', b'"who":"olga","x":1'), Exit.BAD_METADATA),
        (good[:-10], Exit.BAD_METADATA),
        (b"", Exit.BAD_METADATA),
    ):
        path.write_bytes(bad)
        with pytest.raises(BundleRefused) as refused:
            receipts.parse(bad)
        assert refused.value.exit is code
        assert [each.is_good for each in receipts.read(site)] == [False]

    other = Site(tmp_path / "other")
    path.write_bytes(receipts.write(other, verified, "verified", "olga", clock.now_us()).read_bytes())
    (found,) = receipts.read(site)
    assert found.receipt is not None
    assert not found.is_good
    path.write_bytes(good)
    assert [each.is_good for each in receipts.read(site)] == [True]


def test_receipt_is_canonical_json(site: Site, verified: Verified, clock: ManualClock) -> None:
    """What is signed can be written down by any program: sorted keys, no spaces."""
    path = receipts.write(site, verified, "verified", "ölga", clock.now_us())
    document = json.loads(path.read_bytes())
    receipt, _ = receipts.parse(path.read_bytes())
    text = json.dumps(document["receipt"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert receipts.canonical(receipt) == text.encode()


def test_damaged_host_key_is_told(site: Site, verified: Verified, clock: ManualClock) -> None:
    """20: it is not replaced behind anybody's back."""
    receipts.write(site, verified, "verified", "olga", clock.now_us())
    (site.trust / "receipts.key").write_bytes(b"short")

    with pytest.raises(BundleRefused) as refused:
        receipts.write(site, verified, "verified", "olga", clock.now_us())
    assert refused.value.exit is Exit.PREFLIGHT
