"""The clock's floor: the latest moment that signers wrote, which nothing takes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bundle import signing, trusted, verifying
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from tests import signed
from tests.clocks import ManualClock

LATER = "2026-09-21T00:00:00Z"


def test_floor_never_sinks(clock: ManualClock, tmp_path: Path) -> None:
    """A later release may have been built earlier, on a machine whose clock was behind."""
    office, site = signed.office(tmp_path / "roots"), Site(tmp_path / "host")
    for serial, built in ((1, LATER), (2, signed.BUILT)):
        bundle = signed.build(tmp_path / str(serial), serial, built=built)
        signing.start(bundle, office.folder, 300)
        for key in office.some:
            signing.sign(bundle, key)
        found = verifying.verify(bundle, site, clock, fingerprints=office.prints())
        state = trusted.accept(site, found, clock.now_us())
        assert state.time_floor == LATER

    before = ManualClock(clock.now_us() - 86_400_000_000)
    with pytest.raises(BundleRefused) as refused:
        verifying.verify(tmp_path / "2", site, before)
    assert refused.value.exit is Exit.CLOCK_WRONG
