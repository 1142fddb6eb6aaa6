"""The bill of materials: valid CycloneDX, the same bytes each time, and nothing in the bundle outside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from appliance.bundle import folder, hashing, layout, manifest, sbom
from appliance.bundle.licences import Package
from tests.bundles import built

SUBJECT = sbom.Subject("1.0.0", 1, "2026-11-21T12:00:00Z", "0" * 40)
WHEEL = manifest.File(path="wheels/p-1-py3-none-any.whl", size=1, sha256="a" * 64, role="wheel")


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    """The document of a bundle of this tree."""
    found: dict[str, Any] = json.loads((built() / layout.SBOM).read_bytes())
    return found


def package_of(licence: str, *, is_spdx: bool, sboms: dict[str, bytes] | None = None) -> Package:
    return Package("p", "1", "says what it is", licence, is_spdx, {}, sboms or {})


def test_it_keeps_to_the_schema(real: dict[str, Any]) -> None:
    """The strict schema of CycloneDX 1.6, as its own library has it; and the control, that it can fail."""
    validator = JsonStrictValidator(SchemaVersion.V1_6)

    assert validator.validate_str(json.dumps(real)) is None
    assert validator.validate_str(json.dumps({**real, "components": [{"type": "dream"}]})) is not None


def test_it_covers_every_file(real: dict[str, Any]) -> None:
    """Every file but the lists is a component or a part of one, with the digest that it has."""
    bundle = built()
    listed = {layout.MANIFEST, layout.SUMS, layout.SBOM}
    covered = list(sbom.paths(real))
    digests = {
        path: each["hashes"][0]["content"]
        for each in real["components"]
        if each["type"] != "machine-learning-model"
        for path in sbom.paths({"components": [each]})
    }

    assert sorted(covered) == sorted(set(folder.paths(bundle)) - listed)
    assert digests == {path: hashing.digest(bundle / path)[0] for path in digests}


def test_packages_have_names_licences_and_digests(real: dict[str, Any]) -> None:
    """Each wheel is a component of its own, since a package has one for each Python."""
    libraries = [each for each in real["components"] if each["type"] == "library"]
    numpys = {each["version"] for each in libraries if each["name"] == "numpy"}

    assert len(libraries) == len(list((built() / layout.WHEELS).iterdir()))
    assert all(
        each["purl"].startswith("pkg:pypi/") and each["licenses"] and each["hashes"] for each in libraries
    )
    assert len(numpys) >= 1
    assert len({each["bom-ref"] for each in libraries}) == len(libraries)


def test_what_is_built_into_llamas_wheel_is_told(real: dict[str, Any]) -> None:
    """llama.cpp, ggml and libgomp with versions and licences; other wheels tell theirs too."""
    [llama] = [each for each in real["components"] if each["name"] == "llama-cpp-python"]
    inner = {each["name"]: each for each in llama["components"]}

    assert set(inner) == {"llama.cpp", "ggml", "libgomp"}
    assert inner["libgomp"]["licenses"] == [{"expression": "GPL-3.0-or-later WITH GCC-exception-3.1"}]
    assert all(each["version"] for each in inner.values())


def test_a_model_has_a_card(real: dict[str, Any]) -> None:
    """Type, licence, architecture, quantization, and the digest of the whole."""
    [model] = [each for each in real["components"] if each["type"] == "machine-learning-model"]
    [blob] = manifest.parse((built() / layout.MANIFEST).read_bytes()).blobs
    properties = {each["name"]: each["value"] for each in model["modelCard"]["properties"]}

    assert model["hashes"] == [{"alg": "SHA-256", "content": blob.sha256}]
    assert model["licenses"] == [{"expression": "Apache-2.0"}]
    assert model["modelCard"]["modelParameters"]["architectureFamily"] == "llama"
    assert properties == {
        "appliance:quantization": "Q4_1",
        "appliance:licence_file": "licences/models/smollm2-135m-instruct.txt",
    }


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"bomFormat": "SPDX"}', b'{"bomFormat": "CycloneDX"}', b"\xff"]
)
def test_a_bill_in_a_wheel_that_says_nothing_changes_nothing(data: bytes) -> None:
    """A wheel's own bill may be of another form, or broken: the wheel is a component all the same."""
    package = package_of("MIT", is_spdx=True, sboms={"a.json": data})
    found = json.loads(sbom.make(SUBJECT, [WHEEL], {WHEEL.path: package}, []))

    assert [each["name"] for each in found["components"]] == ["p"]
    assert "components" not in found["components"][0]


def test_words_that_are_no_spdx_stay_words() -> None:
    """A licence that the list of SPDX has not is told by its name, and the document stays valid."""
    package = package_of("Our Own Licence", is_spdx=False)
    data = sbom.make(SUBJECT, [WHEEL], {WHEEL.path: package}, [])

    assert json.loads(data)["components"][0]["licenses"] == [{"license": {"name": "Our Own Licence"}}]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    assert data == sbom.make(SUBJECT, [WHEEL], {WHEEL.path: package}, [])
