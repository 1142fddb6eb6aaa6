"""Deltas: what a host holds is left out, and a host whose base is altered says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import copying, delta, folder, inventory, layout, manifest, media, notes, store, sums
from appliance.bundle.inventory import Inventory
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError
from tests import bundles
from tests import volumes as made

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A host that has installed serial 1."""
    site = Site(tmp_path / "host")
    taken = copying.take([bundles.tiny(tmp_path / "old", model=made.model())], site)
    assert taken.manifest is not None
    store.adopt(site, taken.staging, taken.manifest)
    release = site.release(1, "1.0.0")
    release.mkdir(parents=True)
    (release / layout.MANIFEST).write_bytes(manifest.dump(taken.manifest))
    (release / ".complete").touch()
    return site


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Serial 2: the same model and wheel, another program."""
    return bundles.tiny(tmp_path / "new", serial=2, release="1.1.0", model=made.model())


def read(folder_: Path) -> Manifest:
    return manifest.parse((folder_ / layout.MANIFEST).read_bytes())


def refused(exit_code: Exit) -> pytest.RaisesExc[BundleRefused]:
    return pytest.raises(BundleRefused, check=lambda error: error.exit is exit_code)


def test_delta_leaves_out_what_the_host_holds(site: Site, full: Path, tmp_path: Path) -> None:
    """The model and the wheel stay there; every list goes on naming them."""
    stock = inventory.take_stock(site)
    out = delta.delta(full, stock.inventory, tmp_path / "delta")
    smaller, whole = read(out), read(full)

    assert smaller.kind == "delta"
    assert smaller.delta is not None
    assert smaller.delta.base_serials == (1,)
    assert set(smaller.delta.omitted) == store.needed(whole).keys()
    assert (smaller.files, smaller.blobs) == (whole.files, whole.blobs)
    absent = {path for path in folder.paths(full) if path.startswith(("blobs/", "wheels/"))}
    assert set(folder.paths(out)) == set(folder.paths(full)) - absent
    assert manifest.left_out(smaller).keys() == absent
    listed = sums.parse((out / layout.SUMS).read_bytes())
    assert absent < listed.keys()
    assert listed[layout.MANIFEST] == made.digest((out / layout.MANIFEST).read_bytes())


def test_same_delta_is_made_twice(site: Site, full: Path, tmp_path: Path) -> None:
    """Byte for byte, and with the same times."""
    held = inventory.take_stock(site).inventory
    one, other = (delta.delta(full, held, tmp_path / name) for name in ("one", "other"))

    assert made.files(one) == made.files(other)
    assert (one / layout.SUMS).stat().st_mtime == (other / layout.SUMS).stat().st_mtime


def test_delta_is_installed_over_its_base(site: Site, full: Path, tmp_path: Path) -> None:
    """Cut, carried, copied: the store gives what was left out, and holds what the release needs."""
    out = delta.delta(full, inventory.take_stock(site).inventory, tmp_path / "delta")
    (volume,) = media.split(out, tmp_path / "stick", media.PRESETS["fat32"])
    taken = copying.take([volume], site)

    assert taken.missing == ()
    assert taken.manifest is not None
    assert taken.present == {digest: store.place(site, digest) for digest in store.needed(taken.manifest)}
    store.adopt(site, taken.staging, taken.manifest)
    assert store.held(site) == store.needed(read(full))


def test_altered_base_is_refused_by_name(site: Site, full: Path, tmp_path: Path) -> None:
    """With a code of its own, and with the name and digest of the file."""
    out = delta.delta(full, inventory.take_stock(site).inventory, tmp_path / "delta")
    blob = read(full).blobs[0]
    place = store.place(site, blob.sha256)
    place.write_bytes(bytes([place.read_bytes()[0] ^ 1]) + place.read_bytes()[1:])
    with refused(Exit.BAD_BASE) as caught:
        copying.take([out], site)
    assert blob.name in caught.value.message
    assert blob.sha256 in caught.value.message
    assert caught.value.code == "bundle_bad_base"

    notes.discard(site, 2)
    taken = copying.take([full], site)  # the hint says: bring the full bundle
    assert taken.manifest is not None
    store.adopt(site, taken.staging, taken.manifest)
    store.verify(site, blob.sha256)


def test_base_that_is_gone_is_refused_by_name(site: Site, full: Path, tmp_path: Path) -> None:
    """Another code: this host never had it, or does not any more."""
    out = delta.delta(full, inventory.take_stock(site).inventory, tmp_path / "delta")
    wheel = next(each for each in read(full).files if each.role == "wheel")
    store.place(site, wheel.sha256).unlink()

    with refused(Exit.MISSING) as caught:
        copying.take([out], site)
    assert wheel.path in caught.value.message


def test_base_altered_between_two_discs_is_found_by_the_verification(
    site: Site, full: Path, tmp_path: Path
) -> None:
    """The store is read once in an import; what is handed on is read again by who verifies."""
    out = delta.delta(full, inventory.take_stock(site).inventory, tmp_path / "delta")
    taken = copying.take([out], site)
    digest = read(full).blobs[0].sha256
    store.place(site, digest).write_bytes(bytes(len(made.model())))
    again = copying.take([out], site)

    assert again.present == taken.present
    assert made.digest(again.present[digest].read_bytes()) != digest


def test_inventory_leaves_altered_files_out(site: Site) -> None:
    """A delta that relies on them would be carried in for nothing."""
    digest = min(store.held(site))
    store.place(site, digest).write_bytes(b"altered")
    stock = inventory.take_stock(site)

    assert stock.altered == (digest,)
    assert digest not in stock.inventory.held
    assert stock.inventory.serials == (1,)


def test_inventory_tells_nothing_else_of_the_host(site: Site) -> None:
    """Digests and serials, in a form that has one spelling."""
    found = inventory.take_stock(site).inventory
    data = inventory.dump(found)

    assert inventory.parse(data) == found
    assert str(site.root).encode() not in data
    assert set(Inventory.__struct_fields__) == {"format", "product", "serials", "held"}


def test_base_bundle_stands_in_for_an_inventory(site: Site, tmp_path: Path) -> None:
    """Where the connected side knows what was installed."""
    assert inventory.of_bundle(read(tmp_path / "old")) == inventory.take_stock(site).inventory


def test_signed_bundle_makes_no_delta(site: Site, full: Path, tmp_path: Path) -> None:
    """Its signatures are of another manifest."""
    (full / "SHA256SUMS.0123456789abcdef.p384.sig").write_bytes(b"")
    with pytest.raises(RequestError, match="signed") as caught:
        delta.delta(full, inventory.take_stock(site).inventory, tmp_path / "delta")

    assert caught.value.code == "bundle_signed"


def test_delta_of_a_delta_of_nothing_or_over_something_is_refused(
    site: Site, full: Path, tmp_path: Path
) -> None:
    """Each would be a mistake at the desk."""
    held = inventory.take_stock(site).inventory
    with pytest.raises(RequestError) as caught:
        delta.delta(full, Inventory(inventory.FORMAT, "appliance", (), ()), tmp_path / "delta")
    assert caught.value.code == "delta_saves_nothing"
    out = delta.delta(full, held, tmp_path / "delta")
    with pytest.raises(RequestError) as caught:
        delta.delta(full, held, out)
    assert caught.value.code == "file_exists"
    with pytest.raises(RequestError) as caught:
        delta.delta(out, held, tmp_path / "again")
    assert caught.value.code == "bundle_is_delta"


def test_bundle_that_is_altered_makes_no_delta(site: Site, full: Path, tmp_path: Path) -> None:
    """Found on the connected side, where it can be mended."""
    held = inventory.take_stock(site).inventory
    readme = full / "README.txt"
    readme.write_bytes(readme.read_bytes()[:-1] + b"?")
    with refused(Exit.WRONG_DIGEST):
        delta.delta(full, held, tmp_path / "one")
    readme.unlink()
    with refused(Exit.MISSING):
        delta.delta(full, held, tmp_path / "other")


def test_delta_that_leaves_out_what_it_does_not_list_is_refused(
    site: Site, full: Path, tmp_path: Path
) -> None:
    """A manifest that contradicts itself."""
    found = read(full)
    odd = (
        manifest.dump(found)
        .replace(b'"kind":"full"', b'"kind":"delta"')
        .replace(b'"delta":null', b'"delta":{"base_serials":[1],"omitted":["%s"]}' % (b"a" * 64))
    )
    (full / layout.MANIFEST).write_bytes(odd)
    folder.seal(full)

    with refused(Exit.BAD_METADATA):
        copying.take([full], site)


@given(st.binary(max_size=300))
def test_whatever_an_inventory_holds_is_read_or_refused(data: bytes) -> None:
    """It comes from a host that may be anybody's."""
    try:
        found = inventory.parse(data)
    except BundleRefused:
        return
    assert inventory.dump(found) == data


@given(st.sets(DIGESTS, max_size=4), st.sets(st.integers(1, 1000), max_size=3))
def test_inventory_is_read_as_it_was_written(held: set[str], serials: set[int]) -> None:
    """And no other order is."""
    found = Inventory(inventory.FORMAT, "appliance", tuple(sorted(serials)), tuple(sorted(held)))
    assert inventory.parse(inventory.dump(found)) == found

    turned = Inventory(inventory.FORMAT, "appliance", found.serials, found.held[::-1])
    if len(held) > 1:
        with refused(Exit.BAD_METADATA):
            inventory.parse(inventory.dump(turned))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 50_000,
        b'{"format":"appliance-inventory/1","held":[],"product":"appliance","serials":[]}',
        b'{"format":"appliance-inventory/2","held":[],"product":"appliance","serials":[]}\n',
        b'{"format":"appliance-inventory/1","held":["x"],"product":"appliance","serials":[]}\n',
        b'{"format":"appliance-inventory/1","held":[],"host":"a","product":"appliance","serials":[]}\n',
        b" " * (inventory.MAX_BYTES + 1),
    ],
)
def test_inventory_in_another_form_is_refused(data: bytes) -> None:
    """Cut, of another version, with a key too many, too large."""
    with refused(Exit.BAD_METADATA):
        inventory.parse(data)
