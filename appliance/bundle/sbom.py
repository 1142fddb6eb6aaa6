"""`sbom.cdx.json`: what a bundle is made of, as CycloneDX 1.6. Pure.

Each wheel is a component with its own digest (a package has one for each Python), and within it what it says
is built into it (PEP 770). Models are `machine-learning-model` with a model card. Every other file is a
component of type `file`, so that nothing in the bundle stands outside the list but the lists themselves.
No random number and no clock: the same release gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from appliance.bundle.licences import Package
from appliance.bundle.manifest import Blob, File

_ROOT: Final = "appliance"
_PATH: Final = "appliance:path"
_CARRIED: Final = ("type", "name", "version", "purl", "licenses", "hashes", "description")
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:appliance:bundle")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose bill of materials it is. `built`: RFC 3339, the commit's time."""

    release: str
    serial: int
    built: str
    commit: str


def make(
    subject: Subject, files: Sequence[File], packages: Mapping[str, Package], blobs: Sequence[Blob]
) -> bytes:
    """The document. `packages`: what each wheel says of itself, by its path in the bundle."""
    wheels = [_wheel(each, packages[each.path]) for each in files if each.path in packages]
    models = [_model(each) for each in blobs]
    others = [_file(each) for each in files if each.path not in packages]
    name = f"{subject.release}/{subject.serial}/{subject.commit}"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, name)}",
        "version": 1,
        "metadata": {
            "timestamp": subject.built,
            "component": {
                "type": "application",
                "bom-ref": _ROOT,
                "name": "appliance",
                "version": subject.release,
                "properties": [
                    {"name": "appliance:commit", "value": subject.commit},
                    {"name": "appliance:serial", "value": str(subject.serial)},
                ],
            },
        },
        "components": [*wheels, *models, *others],
        "dependencies": [
            {"ref": _ROOT, "dependsOn": sorted(each["bom-ref"] for each in (*wheels, *models))},
        ],
    }
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def paths(document: Mapping[str, Any]) -> Iterator[str]:
    """Every path of the bundle that a component stands for."""
    for component in document["components"]:
        for each in component.get("properties", []):
            if each["name"] == _PATH:
                yield each["value"]


def _wheel(file: File, package: Package) -> dict[str, Any]:
    name = file.path.rpartition("/")[2]
    reference = f"pkg:pypi/{package.name}@{package.version}?file_name={name}"
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": package.name,
        "version": package.version,
        "purl": reference,
        "licenses": _licence(package.licence)
        if package.is_spdx
        else [{"license": {"name": package.licence}}],
        "hashes": _hashes(file.sha256),
        "properties": [{"name": _PATH, "value": file.path}],
    }
    if package.summary:
        found["description"] = package.summary
    if inner := list(_carried(package, reference)):
        found["components"] = inner
    return found


def _carried(package: Package, reference: str) -> Iterator[dict[str, Any]]:
    """What a wheel says is built into it; a bill in another form than CycloneDX stays in the wheel only."""
    number = 0
    for _, data in sorted(package.sboms.items()):
        try:
            document = json.loads(data)
        except ValueError:
            continue
        if not isinstance(document, dict) or document.get("bomFormat") != "CycloneDX":
            continue
        for component in document.get("components", []):
            number += 1
            kept = {key: component[key] for key in _CARRIED if key in component}
            yield {**kept, "bom-ref": f"{reference}#{number}"}


def _model(blob: Blob) -> dict[str, Any]:
    reference = f"model:{blob.sha256}"
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": blob.model.id if blob.model else blob.name,
        "hashes": _hashes(blob.sha256),
        "properties": [
            {"name": "appliance:file", "value": blob.name},
            {"name": "appliance:size_bytes", "value": str(blob.size)},
            *({"name": _PATH, "value": path} for path in blob.paths),
        ],
    }
    if blob.model is None:
        return found
    found["licenses"] = _licence(blob.model.licence)
    found["description"] = f"{blob.model.quant}; source: {blob.model.source}"
    found["modelCard"] = {
        "modelParameters": {
            "task": "text-generation",
            "architectureFamily": blob.model.arch,
            "modelArchitecture": blob.model.arch,
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "text"}],
        },
        "properties": [
            {"name": "appliance:quantization", "value": blob.model.quant},
            {"name": "appliance:licence_file", "value": blob.model.licence_file},
        ],
    }
    return found


def _file(file: File) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{file.path}",
        "name": file.path,
        "hashes": _hashes(file.sha256),
        "properties": [{"name": _PATH, "value": file.path}],
    }


def _licence(text: str) -> list[dict[str, Any]]:
    try:
        return [{"expression": canonicalize_license_expression(text)}]
    except InvalidLicenseExpression:
        return [{"license": {"name": text}}]


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]
