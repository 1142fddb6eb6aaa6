"""What a medium can hold that is no bundle of ours: refused with its own code, and nothing of it staged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.bundle import copying, layout, notes, volumes
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from tests import bundles
from tests import volumes as made


@pytest.fixture
def discs(tmp_path: Path) -> list[Path]:
    return made.discs(made.signed(tmp_path / "bundle"), tmp_path / "out")


def refused(paths: list[Path], site: Site) -> BundleRefused:
    with pytest.raises(BundleRefused) as caught:
        copying.take(paths, site)
    return caught.value


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()  # it may be linked to the bundle's own
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def swap(disc: Path) -> None:
    one, other = sorted(disc.rglob("*.p*"))[:2]
    kept = one.read_bytes()
    one.unlink()
    other.rename(one)
    other.write_bytes(kept)


def relist(disc: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Write the volume's own list anew, as somebody would who controls the medium."""
    (name,) = [each.name for each in disc.glob("VOLUME-02.*")]
    digests = volumes.parse_list((disc / name).read_bytes(), name)
    change(digests)
    (disc / name).unlink()
    (disc / name).write_text("".join(f"{digests[path]}  {path}\n" for path in sorted(digests)))


def part(disc: Path) -> Path:
    return min(disc.rglob("*.p*"))


def link_away(path: Path) -> None:
    """The thing itself lies beside the disc, a link in its place."""
    disc = next(each for each in path.parents if (each / volumes.NAME).exists())
    path.rename(disc.parent / "elsewhere")
    path.symlink_to(disc.parent / "elsewhere")


ATTACKS: dict[str, tuple[Exit, Callable[[Path], object]]] = {
    "a flipped bit": (Exit.WRONG_DIGEST, lambda disc: flip(part(disc))),
    "a part that is cut": (Exit.WRONG_DIGEST, lambda disc: os.truncate(part(disc), 100)),
    "an empty part": (Exit.WRONG_DIGEST, lambda disc: os.truncate(part(disc), 0)),
    "two parts swapped": (Exit.WRONG_DIGEST, swap),
    "a file nobody listed": (Exit.WRONG_DIGEST, lambda disc: (disc / "autorun.inf").write_text("")),
    "a renamed part": (Exit.WRONG_DIGEST, lambda disc: part(disc).rename(disc / "blobs" / "part")),
    "a symbolic link": (Exit.WRONG_DIGEST, lambda disc: (disc / "more").symlink_to("/etc/passwd")),
    "a link for a part": (Exit.WRONG_DIGEST, lambda disc: link_away(part(disc))),
    "a link for a folder": (Exit.WRONG_DIGEST, lambda disc: link_away(disc / "blobs")),
    "a FIFO": (Exit.WRONG_DIGEST, lambda disc: os.mkfifo(disc / "blobs" / "pipe")),
    "a name with a space": (Exit.WRONG_DIGEST, lambda disc: (disc / "a b").write_text("")),
    "a hidden name": (Exit.WRONG_DIGEST, lambda disc: (disc / ".hidden").write_text("")),
    "a name that is not UTF-8": (
        Exit.WRONG_DIGEST,
        lambda disc: Path(os.fsdecode(os.fsencode(disc) + b"/\xff")).write_text(""),
    ),
    "a name with a line feed": (Exit.WRONG_DIGEST, lambda disc: (disc / "a\nb").write_text("")),
    "names that differ by case": (
        Exit.WRONG_DIGEST,
        lambda disc: (disc / "Volume.json").write_text(""),
    ),
    "a list that leads out": (
        Exit.BAD_METADATA,
        lambda disc: relist(disc, lambda each: each.update({"../../etc/cron": "a" * 64})),
    ),
    "a list with a program beside the parts": (
        Exit.BAD_METADATA,
        lambda disc: relist(disc, lambda each: each.update({"install.sh": "a" * 64})),
    ),
    "a list with another digest": (
        Exit.BAD_METADATA,
        lambda disc: relist(disc, lambda each: each.update({min(each): "a" * 64})),
    ),
    "no list": (Exit.MISSING, lambda disc: (disc / "VOLUME-02.SHA256SUMS").unlink()),
    "a cut list": (Exit.BAD_METADATA, lambda disc: os.truncate(disc / "VOLUME-02.SHA256SUMS", 500)),
    "an endless volume.json": (Exit.WRONG_DIGEST, lambda disc: os.truncate(disc / volumes.NAME, 1 << 40)),
    "a cut volume.json": (Exit.BAD_METADATA, lambda disc: os.truncate(disc / volumes.NAME, 20)),
}

# What the second disc says of itself holds together; the bundle's lists prevail when they come.
ONLY_THE_LISTS_TELL = {"a list with a program beside the parts"}
WITHOUT_LISTS = {"a list with another digest": Exit.WRONG_DIGEST}


@pytest.mark.parametrize("first", [True, False], ids=["lists known", "lists unknown"])
@pytest.mark.parametrize("name", ATTACKS)
def test_altered_second_disc_is_refused(
    name: str, discs: list[Path], site: Site, tmp_path: Path, *, first: bool
) -> None:
    """Whether it comes before the first one or after; nothing but good parts is staged."""
    code, attack = ATTACKS[name]
    disc = made.burn(discs[1], tmp_path / "in")
    attack(disc)
    if first:
        copying.take([discs[0]], site)
    if first or name not in ONLY_THE_LISTS_TELL:
        code = code if first else WITHOUT_LISTS.get(name, code)
        assert refused([disc], site).exit is code
    else:
        copying.take([disc], site)
    copying.take([discs[0]], site)

    assert made.files(site.staging / "1").items() <= made.files(tmp_path / "bundle").items()
    assert copying.take(discs, site).missing == ()


def test_good_discs_are_taken(discs: list[Path], site: Site) -> None:
    """The control of the table above."""
    assert copying.take(discs[1:2], site).num_copied > 0
    assert copying.take(discs, site).missing == ()


def test_volumes_of_two_bundles_are_refused(discs: list[Path], site: Site, tmp_path: Path) -> None:
    """An older release's second disc beside this one's first."""
    older = made.discs(made.signed(tmp_path / "older", serial=2, model=made.model(7)), tmp_path / "out-2")
    error = refused([discs[0], older[1]], site)

    assert error.exit is Exit.BAD_METADATA
    assert "volumes of two bundles" in error.message


def test_another_bundles_disc_during_an_import_is_refused(
    discs: list[Path], site: Site, tmp_path: Path
) -> None:
    """The operator is told which import is under way; a first disc begins another one."""
    copying.take([discs[0]], site)
    older = made.discs(made.signed(tmp_path / "older", serial=2), tmp_path / "out-2")
    error = refused([older[1]], site)
    assert error.exit is Exit.BAD_METADATA
    assert "serial 1 is being imported" in error.message
    assert "--discard 1" in error.hint

    assert copying.take([older[0]], site).serial == 2
    assert notes.unfinished(site) == [1, 2]


def test_same_serial_from_another_build_is_refused(discs: list[Path], site: Site, tmp_path: Path) -> None:
    """Two builds may carry one number by mistake; their discs do not mix."""
    copying.take([discs[0]], site)
    twin = made.discs(made.signed(tmp_path / "twin", model=made.model(9)), tmp_path / "out-2")

    assert refused([twin[1]], site).exit is Exit.BAD_METADATA
    assert refused([twin[0]], site).exit is Exit.BAD_METADATA


def test_discs_that_were_cut_twice_are_refused(discs: list[Path], site: Site, tmp_path: Path) -> None:
    """One bundle cut for two sorts of media: parts lie on other discs than the lists say."""
    copying.take([discs[0]], site)
    again = made.discs(tmp_path / "bundle", tmp_path / "out-2", parts=3)

    assert refused([again[1]], site).exit is Exit.BAD_METADATA


def test_crafted_lists_do_not_stage_what_nobody_signed(site: Site, tmp_path: Path) -> None:
    """A second disc whose list agrees with itself, given first: the bundle's own list finds it out."""
    discs = made.discs(made.signed(tmp_path / "bundle"), tmp_path / "out")
    crafted = made.burn(discs[1], tmp_path / "in")
    evil = part(crafted)
    path = str(evil.relative_to(crafted))
    evil.unlink()
    evil.write_bytes(b"x" * bundles.PART_BYTES)
    relist(crafted, lambda each: each.update({path: made.digest(b"x" * bundles.PART_BYTES)}))
    copying.take([crafted], site)
    assert (site.staging / "1" / path).exists()

    copying.take([discs[0]], site)
    assert not (site.staging / "1" / path).exists()
    assert copying.take(discs, site).missing == ()


def test_empty_folder_is_no_medium(site: Site, tmp_path: Path) -> None:
    """A stick that was not mounted is told from one that is damaged."""
    (tmp_path / "mnt").mkdir()

    assert refused([tmp_path / "mnt"], site).exit is Exit.MISSING


def test_bundle_in_one_folder_with_an_extra_file_is_refused(site: Site, tmp_path: Path) -> None:
    """And with a link, and with a missing manifest."""
    bundle = made.signed(tmp_path / "bundle")
    (bundle / "app" / "extra.py").write_text("")
    assert refused([bundle], site).exit is Exit.WRONG_DIGEST
    (bundle / "app" / "extra.py").unlink()
    (bundle / "app" / "extra.py").symlink_to("serial.txt")
    assert refused([bundle], site).exit is Exit.WRONG_DIGEST
    (bundle / "app" / "extra.py").unlink()
    (bundle / layout.MANIFEST).unlink()
    assert refused([bundle], site).exit is Exit.MISSING


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_whatever_volume_json_holds_ends_in_a_refusal(data: bytes, tmp_path: Path) -> None:
    """Bytes of any sort where a medium says what it is."""
    site, disc = Site(tmp_path / "host"), tmp_path / "disc"
    disc.mkdir(exist_ok=True)
    (disc / volumes.NAME).write_bytes(data)

    assert refused([disc], site).exit in {Exit.BAD_METADATA, Exit.MISSING}
    assert not site.staging.joinpath("1").exists()
