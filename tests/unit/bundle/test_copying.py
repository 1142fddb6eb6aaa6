"""Copying volumes to the host: any order, in pieces, again, and never more than was missing."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.bundle import copying, layout, media, notes, store
from appliance.bundle.copying import Taken
from appliance.bundle.layout import Site
from appliance.bundle.media import PRESETS
from appliance.bundle.refusals import BundleRefused, Exit
from tests import volumes as made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return made.signed(tmp_path / "bundle")


@pytest.fixture
def discs(bundle: Path, tmp_path: Path) -> list[Path]:
    return made.discs(bundle, tmp_path / "out")


def waiting_for(taken: Taken) -> list[int]:
    return [each.volume for each in taken.missing]


def test_bundle_in_one_folder_is_copied_as_it_is(bundle: Path, site: Site) -> None:
    """File by file, signatures and metadata too, readable by everybody, and nothing beside them."""
    taken = copying.take([bundle], site)

    assert made.files(taken.staging) == made.files(bundle)
    assert taken.staging == site.staging / "1"
    assert taken.missing == ()
    assert taken.manifest is not None
    assert {path.stat().st_mode & 0o777 for path in taken.staging.rglob("*") if path.is_file()} == {0o644}


def test_every_order_of_discs_gives_the_same_copy(bundle: Path, discs: list[Path], tmp_path: Path) -> None:
    """One call for each disc, as an operator with one drive does it; 24 orders of four."""
    for number, order in enumerate(itertools.permutations(discs)):
        site = Site(tmp_path / f"host-{number}")
        for nth, disc in enumerate(order, start=1):
            taken = copying.take([disc], site)
            assert bool(taken.missing) == (nth < len(order))

        assert made.files(taken.staging) == made.files(bundle)
        shutil.rmtree(site.root)


def test_what_is_missing_is_told_by_volume(discs: list[Path], site: Site) -> None:
    """Before the first volume came and after it."""
    assert waiting_for(copying.take([discs[2]], site)) == [1, 2, 4]
    assert waiting_for(copying.take([discs[0]], site)) == [2, 4]
    assert waiting_for(copying.take([discs[3]], site)) == [2]
    last = copying.state(site, 1)
    assert last is not None
    assert len(last.missing[0].paths) == len([each for each in discs[1].rglob("*.p*") if each.is_file()])
    assert copying.take([discs[1]], site).missing == ()


def test_manifest_is_known_with_the_first_volume(discs: list[Path], site: Site) -> None:
    """What can refuse a bundle is there before the second disc is asked for."""
    assert copying.take([discs[1]], site).manifest is None
    taken = copying.take([discs[0]], site)

    assert taken.manifest is not None
    assert taken.manifest.serial == 1


def test_medium_that_holds_several_volumes_is_found_through(discs: list[Path], site: Site) -> None:
    """The operator names the stick, and not each folder on it."""
    assert copying.take([discs[0].parent], site).missing == ()


def test_volumes_copied_into_one_folder_are_taken(bundle: Path, discs: list[Path], site: Site) -> None:
    """As `cp -r volume/. folder` leaves them."""
    together = site.root / "together"
    for disc in discs:
        shutil.copytree(disc, together, dirs_exist_ok=True)
    taken = copying.take([together], site)

    assert made.files(taken.staging) == made.files(bundle)


def test_same_volume_twice_does_no_harm(discs: list[Path], site: Site, tmp_path: Path) -> None:
    """In one call and in two: what is there with the right digest is not copied again."""
    twin = made.burn(discs[1], tmp_path / "twin")
    first = copying.take([discs[1], twin], site)
    again = copying.take([twin], site)

    assert (again.num_copied, again.num_skipped) == (0, first.num_copied)


def test_torn_part_is_copied_again(bundle: Path, discs: list[Path], site: Site) -> None:
    """A file of the right size with other bytes, and one that is too short."""
    taken = copying.take(discs, site)
    torn, short = sorted(taken.staging.rglob("*.p*"))[:2]
    torn.write_bytes(bytes(torn.stat().st_size))
    short.write_bytes(b"short")
    again = copying.take(discs, site)

    assert made.files(taken.staging) == made.files(bundle)
    assert (again.num_copied, again.num_skipped) == (2, taken.num_copied - 2)


def test_disc_with_one_bad_file_gives_all_others(
    discs: list[Path], bundle: Path, site: Site, tmp_path: Path
) -> None:
    """What was good is kept; another copy of that disc gives the rest."""
    scratched = made.burn(discs[1], tmp_path / "scratched")
    part = next(scratched.rglob("*.p*"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleRefused, match=r"volume 2 .*p00.* has other bytes") as caught:
        copying.take([discs[0], scratched, discs[2], discs[3]], site)
    assert caught.value.exit is Exit.WRONG_DIGEST
    now = copying.state(site, 1)
    assert now is not None
    assert [len(each.paths) for each in now.missing] == [1]

    taken = copying.take([discs[1]], site)
    assert taken.num_copied == 1
    assert made.files(taken.staging) == made.files(bundle)


def test_good_copy_of_a_disc_makes_up_for_a_bad_one(discs: list[Path], site: Site, tmp_path: Path) -> None:
    """Two copies of each disc are carried for that."""
    scratched = made.burn(discs[1], tmp_path / "scratched")
    part = next(scratched.rglob("*.p*"))
    part.write_bytes(b"")

    assert copying.take([discs[0], scratched, discs[1], *discs[2:]], site).missing == ()


def test_file_that_a_diode_lost_is_asked_for(bundle: Path, site: Site, tmp_path: Path) -> None:
    """And taken when it was sent again; a piece of a wheel that was altered is named."""
    first, models, last = media.split(bundle, tmp_path / "out", PRESETS["diode"])
    arrived = made.burn(first, tmp_path / "in")
    piece = next((arrived / "wheels").glob("*.p0001"))
    kept = piece.read_bytes()
    piece.unlink()
    taken = copying.take([arrived, models, last], site)
    assert [str(each) for each in taken.missing] == ["volume 1: wheels/tiny-1.0-py3-none-any.whl"]

    piece.write_bytes(kept[:-1] + b"?")
    with pytest.raises(BundleRefused, match=r"tiny-1\.0-py3-none-any\.whl\.p0001 has other bytes"):
        copying.take([arrived], site)

    piece.write_bytes(kept)
    assert copying.take([arrived], site).missing == ()
    assert made.files(taken.staging) == made.files(bundle)


@pytest.mark.parametrize("lost", [True, False])
def test_last_volume_of_a_diode_stands_in_for_the_first(
    bundle: Path, site: Site, tmp_path: Path, *, lost: bool
) -> None:
    """That is why lists are sent twice: once they were lost, once they were cut."""
    first, models, last = media.split(bundle, tmp_path / "out", PRESETS["diode"])
    arrived = made.burn(first, tmp_path / "in")
    (arrived / layout.SUMS).write_bytes(b"cut")
    if lost:
        (arrived / layout.MANIFEST).unlink()

    assert copying.take([arrived, models, last], site).missing == ()
    assert made.files(site.staging / "1") == made.files(bundle)


def test_model_that_the_store_holds_is_not_copied(bundle: Path, discs: list[Path], site: Site) -> None:
    """It is hashed there, and handed on for the verification to read."""
    whole = site.root / "model"
    whole.parent.mkdir(parents=True)
    whole.write_bytes(made.model())
    (digest,) = {path.name.partition(".")[0] for path in bundle.rglob("*.p0000")}
    store.put(site, digest, whole)
    taken = copying.take([discs[0]], site)

    assert taken.missing == ()
    assert taken.present == {digest: store.place(site, digest)}
    assert not list(taken.staging.rglob("*.p0*"))


def test_model_that_is_altered_in_the_store_is_copied(bundle: Path, discs: list[Path], site: Site) -> None:
    """The store is not believed: a full bundle brings the model again, and `adopt` mends the store."""
    (digest,) = {path.name.partition(".")[0] for path in bundle.rglob("*.p0000")}
    place = store.place(site, digest)
    place.parent.mkdir(parents=True)
    place.write_bytes(bytes(len(made.model())))
    taken = copying.take(discs, site)
    assert taken.present == {}
    assert made.files(taken.staging) == made.files(bundle)

    assert taken.manifest is not None
    store.adopt(site, taken.staging, taken.manifest)
    store.verify(site, digest)


def test_later_signatures_replace_earlier_ones(bundle: Path, site: Site) -> None:
    """The same release, signed anew: old metadata would contradict the new."""
    copying.take([bundle], site)
    (bundle / "metadata" / "1.targets.json").rename(bundle / "metadata" / "2.targets.json")
    taken = copying.take([bundle], site)

    assert made.files(taken.staging) == made.files(bundle)


def test_what_nobody_listed_does_not_stay_in_the_copy(bundle: Path, site: Site) -> None:
    """Where somebody put a file into the staging folder."""
    taken = copying.take([bundle], site)
    (taken.staging / "app" / "extra.py").write_text("import os")
    copying.take([bundle], site)

    assert made.files(taken.staging) == made.files(bundle)


def test_full_bundle_ends_what_discs_began(bundle: Path, discs: list[Path], site: Site) -> None:
    """A stick instead of the third disc: what was copied is kept."""
    before = copying.take(discs[:2], site)
    taken = copying.take([bundle], site)

    assert taken.missing == ()
    assert taken.num_skipped >= before.num_copied - 6


def test_import_can_be_discarded(discs: list[Path], site: Site) -> None:
    """Nothing of it stays in staging."""
    copying.take(discs[:2], site)
    assert notes.unfinished(site) == [1]
    notes.discard(site, 1)

    assert notes.unfinished(site) == []
    assert copying.state(site, 1) is None
    assert not (site.staging / "1").exists()


def test_progress_never_steps_back_and_ends(discs: list[Path], site: Site) -> None:
    """Bytes that were copied, of bytes that are on these media."""
    told: list[tuple[int, int]] = []
    copying.take(discs, site, progress=lambda *each: told.append(each))

    assert told[-1][0] == told[-1][1] > len(made.model())
    assert told == sorted(told)


def test_two_imports_at_once_are_one_too_many(discs: list[Path], site: Site) -> None:
    """The second is told to wait."""
    with notes.locked(site), pytest.raises(BundleRefused) as caught:
        copying.take(discs, site)

    assert caught.value.exit is Exit.BUSY


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_partial_discs_ends_whole(
    seed: int, bundle: Path, discs: list[Path], site: Site, tmp_path: Path
) -> None:
    """Discs with files missing, altered or short, in any order and number; then the good ones."""
    chance = random.Random(seed)
    harm: list[Callable[[Path], object]] = [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[1:] + b"?"),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
    ]
    for number in range(6):
        disc = made.burn(chance.choice(discs), tmp_path / f"try-{number}")
        files = [path for path in disc.rglob("*") if path.is_file() and "blobs" in path.parts]
        for path in chance.sample(files, min(2, len(files))):
            chance.choice(harm)(path)
        with contextlib.suppress(BundleRefused):  # an altered file; `test_media_attacks.py` has the codes
            copying.take([disc], site)
    taken = copying.take(discs, site)

    assert made.files(taken.staging) == made.files(bundle)
    assert taken.missing == ()
