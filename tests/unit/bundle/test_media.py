"""Volumes: what lies where, how large they are, and into what they are written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance.bundle import folder, layout, media, volumes
from appliance.bundle.media import PRESETS, Media
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError
from tests import volumes as made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return made.signed(tmp_path / "bundle")


def parts_of(volume: Path) -> list[str]:
    return [path for path in made.files(volume) if path.startswith(layout.BLOBS)]


def test_first_volume_holds_all_that_can_refuse(bundle: Path, tmp_path: Path) -> None:
    """Lists, signatures, metadata, wheels and programs; later volumes hold parts of models only."""
    first, *others = made.discs(bundle, tmp_path / "out")
    wanted = {path for path in made.files(bundle) if not path.startswith(layout.BLOBS)}

    assert len(others) == 3
    assert wanted <= made.files(first).keys()
    for number, volume in enumerate(others, start=2):
        own = {volumes.NAME, volumes.list_name(number)}
        assert made.files(volume).keys() == {*own, *parts_of(volume)}
    assert sum(len(parts_of(each)) for each in (first, *others)) == made.PARTS


def test_first_volume_tells_what_the_others_hold(bundle: Path, tmp_path: Path) -> None:
    """So a host knows after the first disc which one is missing."""
    first, *others = made.discs(bundle, tmp_path / "out")

    for number, volume in enumerate(others, start=2):
        name = volumes.list_name(number)
        assert (first / name).read_bytes() == (volume / name).read_bytes()


def test_each_volume_is_checked_by_coreutils_alone(bundle: Path, tmp_path: Path) -> None:
    """Every file of it but its own list stands in that list, as `sha256sum` reads it."""
    for number, volume in enumerate(made.discs(bundle, tmp_path / "out"), start=1):
        name = volumes.list_name(number)
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", "--quiet", name],
            cwd=volume,
            capture_output=True,
            check=False,
        )

        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert (
            volumes.parse_list((volume / name).read_bytes(), name).keys() | {name}
            == made.files(volume).keys()
        )


def test_volumes_fit_their_medium(bundle: Path, tmp_path: Path) -> None:
    """With every file rounded up to the medium's blocks."""
    room = 60_000
    medium = Media("small", room, block_bytes=2048, overhead_bytes=4096)
    found = media.split(bundle, tmp_path / "out", medium)

    assert len(found) == 3
    for volume in found:
        assert sum(-(-len(data) // 2048) * 2048 for data in made.files(volume).values()) <= room


def test_one_medium_without_a_bound_takes_all(bundle: Path, tmp_path: Path) -> None:
    """`none`, and a stick whose size nobody gave."""
    for name in ("none", "fat32"):
        (volume,) = media.split(bundle, tmp_path / name, PRESETS[name])
        found = made.files(volume)

        assert made.files(bundle).items() <= found.items()
        assert found.keys() - made.files(bundle).keys() == {volumes.NAME, volumes.list_name(1)}


def test_presets_take_the_parts_that_models_are_cut_in() -> None:
    """And keep below what the medium holds: 4,700,372,992 on a DVD+R, 25,025,314,816 on a BD-R."""
    for each in PRESETS.values():
        limits = [limit for limit in (each.payload_bytes, each.file_bytes) if limit is not None]
        assert all(limit > layout.PART_BYTES for limit in limits)
    assert (PRESETS["dvd"].payload_bytes or 0) < 4_700_372_992
    assert (PRESETS["bd"].payload_bytes or 0) < 25_025_314_816 - 268_435_456
    assert PRESETS["fat32"].file_bytes == 2**32 - 1


def test_diode_gets_lists_first_and_last_and_no_archive(bundle: Path, tmp_path: Path) -> None:
    """Wheels travel in pieces, of which none is a zip; names are plain ASCII."""
    first, models, last = media.split(bundle, tmp_path / "out", PRESETS["diode"])
    lists = {path for path in made.files(bundle) if media._is_list(path)}

    assert lists <= made.files(first).keys()
    assert lists <= made.files(last).keys()
    assert len(parts_of(models)) == made.PARTS
    for volume in (first, models, last):
        for path, data in made.files(volume).items():
            assert path.isascii()
            assert not path.endswith(".whl")
            assert not (data.startswith(b"PK\3\4") and b"PK\5\6" in data)
    pieces = sorted((first / "wheels").iterdir())
    wheel = next((bundle / "wheels").iterdir())
    assert len(pieces) == 2
    assert b"".join(each.read_bytes() for each in pieces) == wheel.read_bytes()


def test_volumes_of_an_earlier_run_are_not_mixed_in(bundle: Path, tmp_path: Path) -> None:
    """They are refused, or removed where that is asked for; nothing else is ever removed."""
    out = tmp_path / "out"
    made.discs(bundle, out)
    with pytest.raises(RequestError, match="earlier run") as caught:
        media.split(bundle, out, PRESETS["none"])
    assert caught.value.code == "output_not_fresh"

    assert len(media.split(bundle, out, PRESETS["none"], wipe=True)) == 1
    assert [each.name for each in out.iterdir()] == ["appliance-1.0.0-linux-x86_64.vol01"]

    (out / "somebody.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"not empty: somebody\.txt"):
        media.split(bundle, out, PRESETS["none"], wipe=True)
    assert (out / "somebody.txt").exists()


def test_bundle_that_is_not_whole_is_not_cut(bundle: Path, tmp_path: Path) -> None:
    """A missing file, one that nobody listed, one with other bytes: better found here than in the cellar."""
    (bundle / "stray.txt").write_text("stray")
    with pytest.raises(RequestError, match=r"nobody listed stray\.txt"):
        media.split(bundle, tmp_path / "a", PRESETS["none"])
    (bundle / "stray.txt").unlink()

    readme = (bundle / "README.txt").read_bytes()
    (bundle / "README.txt").write_bytes(readme[:-1] + b"?")
    with pytest.raises(BundleRefused) as caught:
        media.split(bundle, tmp_path / "b", PRESETS["none"])
    assert caught.value.exit is Exit.WRONG_DIGEST
    assert not list((tmp_path / "b").rglob("VOLUME-*"))  # so that nobody takes it for whole

    (bundle / "README.txt").unlink()
    with pytest.raises(RequestError, match=r"README\.txt is missing"):
        media.split(bundle, tmp_path / "c", PRESETS["none"])


def test_medium_too_small_for_the_first_volume_is_said(bundle: Path, tmp_path: Path) -> None:
    """And so is one that a part of a model does not fit on."""
    with pytest.raises(RequestError, match="all that is not a model") as caught:
        media.split(bundle, tmp_path / "a", made.DISC, payload_bytes=5000)
    assert caught.value.code == "medium_too_small"

    with pytest.raises(RequestError, match="no file of a tiny medium"):
        media.split(bundle, tmp_path / "b", Media("tiny", None, file_bytes=4095))
    assert not (tmp_path / "a").exists()


def test_names_that_a_fat_medium_changes_are_refused(tmp_path: Path) -> None:
    """It drops a full stop at a name's end."""
    bundle = made.signed(tmp_path / "bundle", files={"licences/odd.": b"text"})

    with pytest.raises(RequestError, match="FAT medium"):
        media.split(bundle, tmp_path / "out", PRESETS["fat32"])


def test_progress_ends_with_all_bytes(bundle: Path, tmp_path: Path) -> None:
    """What is told is what was read."""
    told: list[tuple[int, int]] = []
    media.split(bundle, tmp_path / "out", PRESETS["none"], progress=lambda *each: told.append(each))
    total = sum(len(data) for data in made.files(bundle).values())

    assert told[-1] == (total, total)
    assert told == sorted(told)


def test_same_bundle_is_cut_the_same_way(bundle: Path, tmp_path: Path) -> None:
    """One lost disc can be written again, long after the others."""
    one, other = (made.discs(bundle, tmp_path / name) for name in ("one", "other"))

    assert [made.files(each) for each in one] == [made.files(each) for each in other]


def test_files_are_linked_where_both_lie_on_one_disk(bundle: Path, tmp_path: Path) -> None:
    """A bundle of 100 GB needs no second 100 GB to be cut."""
    (volume,) = media.split(bundle, tmp_path / "out", PRESETS["none"])

    for path in folder.paths(bundle):
        assert (bundle / path).samefile(volume / path)
