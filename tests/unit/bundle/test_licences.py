"""Licences of packages and models, and what a model's file says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bundle import layout, licences
from appliance.errors import RequestError
from tests.bundles import built, wheel

NAME = "p-1-py3-none-any.whl"


def package(tmp_path: Path, data: bytes, name: str = NAME) -> licences.Package:
    path = tmp_path / name
    path.write_bytes(data)
    return licences.of_wheel(path)


def metadata(tmp_path: Path, lines: str, **texts: bytes) -> licences.Package:
    """A wheel with these lines in its METADATA, which come before its own."""
    extra = {f"p-1.dist-info/licenses/{name}": text for name, text in texts.items()}
    data = wheel(NAME, extra, licence="")
    marker = b"Metadata-Version: 2.1\n"
    path = tmp_path / NAME
    path.write_bytes(data)
    return licences.of_wheel(_rewritten(path, marker, marker + lines.encode()))


def _rewritten(path: Path, old: bytes, new: bytes) -> Path:
    import zipfile  # noqa: PLC0415 - this helper's only

    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).replace(old, new) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("License-Expression: mit or apache-2.0\n", ("MIT OR Apache-2.0", True)),
        ("License: MIT\n", ("MIT", True)),
        (
            "License: Our own\nClassifier: License :: OSI Approved :: BSD License\n",
            ("BSD License", False),
        ),
        ("License: Our own words\n", ("Our own words", False)),
    ],
)
def test_a_licence_is_told_as_well_as_the_wheel_tells_it(
    lines: str, expected: tuple[str, bool], tmp_path: Path
) -> None:
    """SPDX where it is written anywhere, else the classifier, else the wheel's own words."""
    found = metadata(tmp_path, lines, LICENSE=b"text")

    assert (found.licence, found.is_spdx) == expected


def test_a_package_without_words_or_without_text_is_refused(tmp_path: Path) -> None:
    """Both are needed to hand it on."""
    with pytest.raises(RequestError, match="carries no licence"):
        metadata(tmp_path, "License: MIT\n")
    with pytest.raises(RequestError, match="carries no licence"):
        metadata(tmp_path, "", LICENSE=b"text")


def test_texts_lie_under_their_package(tmp_path: Path) -> None:
    """Vendored ones keep their path, names that a bundle can not hold are made plain, code is no text."""
    data = wheel(
        NAME,
        {
            "p-1.dist-info/licenses/vendor/.hidden/LICENCE of x.md": b"x",
            "p/_vendor/q/COPYING": b"q",
            "p/license.py": b"code",
        },
    )
    found = package(tmp_path, data)
    licences.write(tmp_path / "bundle", [found, found])
    written = {
        str(path.relative_to(tmp_path / "bundle")): path.read_bytes()
        for path in (tmp_path / "bundle").rglob("*")
        if path.is_file()
    }

    assert written == {
        "licences/p-1/LICENSE": b"MIT\n",
        "licences/p-1/vendor/hidden/LICENCE_of_x.md": b"x",
        "licences/p-1/p/_vendor/q/COPYING": b"q",
    }


def test_two_texts_of_one_name_are_told(tmp_path: Path) -> None:
    """Two wheels of one release with different terms are somebody's mistake."""
    first = package(tmp_path, wheel(NAME))
    second = package(tmp_path, wheel(NAME, licence="Zlib"))

    with pytest.raises(RequestError, match="two texts of one licence"):
        licences.write(tmp_path / "bundle", [first, second])


def test_every_package_of_the_real_bundle_has_a_text() -> None:
    """One folder for each name and version, and none of them is empty."""
    bundle = built()
    names = {
        f"{each.name}-{each.version}" for each in map(licences.of_wheel, (bundle / layout.WHEELS).iterdir())
    }
    folders = {path.name for path in (bundle / "licences").iterdir()}

    assert folders == {*names, "models"}
    assert all(any(each.rglob("*")) for each in (bundle / "licences").iterdir())
    assert "Apache License" in (bundle / "licences/models/smollm2-135m-instruct.txt").read_text()
    assert "GCC RUNTIME LIBRARY EXCEPTION" in (
        (bundle / "licences/llama-cpp-python-0.3.36/libgomp/copyright").read_text().upper()
    )
