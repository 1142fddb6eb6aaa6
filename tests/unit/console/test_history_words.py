"""What the operator's history says of each kind of entry that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest

from appliance.audit.happenings import HISTORY
from appliance.audit.kinds import PUBLIC_FIELDS, Kind
from appliance.audit.query import Record
from appliance.console.pages import storage

BUNDLE: Mapping[str, str | int] = {
    "serial": 7,
    "release": "2.0.0",
    "sums_sha256": "ab" * 32,
    "num_files": 600,
    "reason": "bundle_expired",
    "from_serial": 6,
    "python": "3.13",
}
SAYS = {
    Kind.BUNDLE_VERIFIED: (
        "Bundle 2.0.0, serial 7 is as its signers signed it",
        "600 files; sha256 abababab",
    ),
    Kind.BUNDLE_REFUSED: ("Bundle 2.0.0, serial 7 was refused", "bundle_expired"),
    Kind.BUNDLE_INSTALLED: ("Release 2.0.0, serial 7 was installed", "after serial 6"),
    Kind.BUNDLE_ROLLED_BACK: ("Release 2.0.0, serial 7 failed, and the host went back", "bundle_expired"),
    Kind.BUNDLE_REPAIRED: ("Release 2.0.0, serial 7 was built again", "for Python 3.13"),
}


def entry(kind: Kind, public: Mapping[str, str | int]) -> Record:
    """An entry of this kind, which nothing but its words is asked of."""
    return cast("Record", SimpleNamespace(kind=kind, public=public))


@pytest.mark.parametrize("kind", [each for each in HISTORY if each.startswith("bundle:")])
def test_operators_read_what_became_of_a_bundle(kind: Kind) -> None:
    """Which release, and why: in words, from what the header says in plaintext."""
    title, detail = storage.words_of(
        entry(kind, {name: BUNDLE[name] for name in PUBLIC_FIELDS[kind] & BUNDLE.keys()})
    )

    assert title == SAYS[kind][0]
    assert detail.startswith(SAYS[kind][1])


def test_what_a_refused_folder_did_not_tell_is_unknown() -> None:
    """A folder that is no bundle has neither release nor serial."""
    public: dict[str, str | int] = {
        "serial": 0,
        "release": "",
        "sums_sha256": "",
        "reason": "bundle_bad_metadata",
    }

    assert (
        storage.words_of(entry(Kind.BUNDLE_REFUSED, public))[0]
        == "Bundle unknown, serial unknown was refused"
    )
