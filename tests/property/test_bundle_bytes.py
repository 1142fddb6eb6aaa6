"""Whatever a medium holds is read or refused: no parser of foreign bytes fails in any other way."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bundle import keys, manifest, metadata, receipts, roots, sums, trusted, verifying
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused
from tests import signed
from tests.clocks import ManualClock
from tests.signed import NOW_US


@functools.cache
def ground() -> dict[str, bytes]:
    """One of each file that is read, well formed."""
    place = Path(tempfile.mkdtemp(prefix="bundle-bytes-"))
    office = signed.office(place / "roots")
    bundle = signed.bundle(place / "b", office, 3)
    site = Site(place / "host")
    clock = ManualClock()
    found = verifying.verify(bundle, site, clock, fingerprints=office.prints())
    trusted.accept(site, found, clock.now_us())
    receipt = receipts.write(site, found, "verified", "olga", clock.now_us())
    files = {path.name: path.read_bytes() for path in (bundle / "metadata").iterdir()}
    return files | {
        "list": (bundle / "SHA256SUMS").read_bytes(),
        "manifest": (bundle / "manifest.json").read_bytes(),
        "receipt": receipt.read_bytes(),
        "public": office.some[0].public.text(),
        "key": office.some[0].public.keys[0].pem,
        "trust": (site.trust / "trust.json").read_bytes(),
    }


def as_root(data: bytes) -> None:
    roots.check([data])


def as_metadata(name: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        files = {each: ground()[each] for each in ground() if each.endswith(".json")} | {name: data}
        metadata.believe(ground()["1.root.json"], files, {}, NOW_US)
        metadata.unsigned(files)

    return read


def as_second_root(data: bytes) -> None:
    files = {each: ground()[each] for each in ground() if each.endswith(".json")}
    metadata.believe(files["1.root.json"], files | {"2.root.json": data}, {}, NOW_US)


def as_trust(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        site = Site(Path(place))
        site.trust.mkdir(parents=True)
        (site.trust / "trust.json").write_bytes(data)
        trusted.load(site)


PARSERS: dict[str, tuple[Callable[[bytes], Any], str]] = {
    "list": (sums.parse, "list"),
    "manifest": (manifest.parse, "manifest"),
    "receipt": (receipts.parse, "receipt"),
    "public": (keys.load_public, "public"),
    "key": (keys.parse, "key"),
    "root": (as_root, "1.root.json"),
    "second root": (as_second_root, "1.root.json"),
    "timestamp": (as_metadata("timestamp.json"), "timestamp.json"),
    "snapshot": (as_metadata("3000.snapshot.json"), "3000.snapshot.json"),
    "targets": (as_metadata("3000.targets.json"), "3000.targets.json"),
    "trust": (as_trust, "trust"),
}
NAMED = pytest.mark.parametrize("name", sorted(PARSERS))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", ["root", "second root", "timestamp", "snapshot", "targets"])
def test_a_fraction_is_refused(name: str) -> None:
    """Signatures are over a canonical form, and a fraction has none."""
    document = json.loads(ground()[PARSERS[name][1]])
    document["signed"]["x-anything"] = 0.5

    with pytest.raises(BundleRefused):
        PARSERS[name][0](json.dumps(document).encode())


def read_or_refuse(name: str, data: bytes) -> None:
    try:
        PARSERS[name][0](data)
    except BundleRefused:
        return


@pytest.mark.parametrize("name", sorted(PARSERS.keys() - {"second root"}))
def test_untouched_bytes_are_read(name: str) -> None:
    """The control: every parser takes its own file."""
    parser, file = PARSERS[name]
    parser(ground()[file])


@NAMED
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_noise_is_refused(name: str, data: bytes) -> None:
    """Bytes of any kind."""
    read_or_refuse(name, data)


@NAMED
@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 1 << 20), length=st.integers(0, 40), new=st.binary(max_size=40))
def test_damaged_files_are_read_or_refused(name: str, place: int, length: int, new: bytes) -> None:
    """A piece of a good file cut out or replaced."""
    good = ground()[PARSERS[name][1]]
    at = place % (len(good) + 1)
    read_or_refuse(name, good[:at] + new + good[at + length :])


@pytest.mark.parametrize(
    "name", ["manifest", "receipt", "root", "second root", "timestamp", "snapshot", "targets", "trust"]
)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_other_values_are_read_or_refused(name: str, data: st.DataObject) -> None:
    """JSON in which one value, at any depth, is another."""
    document = json.loads(ground()[PARSERS[name][1]])
    here, key = {"": document}, ""
    for _ in range(6):
        value = here[key]
        steps: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value or []))) \
            if isinstance(value, list) else []  # fmt: skip
        if not steps or (key != "" and data.draw(st.booleans())):
            break
        here, key = value, data.draw(st.sampled_from(steps))
    here[key] = data.draw(JSON)
    read_or_refuse(name, json.dumps(document).encode())
