"""Licences: of each package from its own wheel, of each model from a file that was given with it."""

from __future__ import annotations

import email.parser
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

from appliance.bundle import layout
from appliance.errors import RequestError

FOLDER: Final = "licences"
_METADATA: Final = re.compile(r"[^/]+\.dist-info/METADATA")
_TEXT: Final = re.compile(r"(?i)(?:^|/)(?:licen[cs]e|copying|notice|authors|copyright)[^/]*$")
_CODE: Final = re.compile(r"\.(?:py|pyi|so|h|c)$")
_UNPRINTED: Final = re.compile(r"[^A-Za-z0-9._+-]")
_MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
_CLASSIFIER: Final = "License :: OSI Approved :: "


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel's own words. `licence` is an SPDX expression where `is_spdx`; `texts` by path in the wheel.

    `sboms` are the bills of materials that it carries for what is built into it (PEP 770).
    """

    name: str
    version: str
    summary: str
    licence: str
    is_spdx: bool
    texts: Mapping[str, bytes]
    sboms: Mapping[str, bytes]


def of_wheel(wheel: Path) -> Package:
    """What a wheel says of itself. RequestError where it names no licence, or brings no text of one."""
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
        metadata = [name for name in names if _METADATA.fullmatch(name)]
        if len(metadata) != 1:
            raise RequestError(f"{wheel.name} is no wheel: it has {len(metadata)} METADATA", code="bad_wheel")
        found = email.parser.BytesParser().parsebytes(archive.read(metadata[0]))
        information = metadata[0].rpartition("/")[0]
        texts = {name: _read(archive, name) for name in names if _is_text(name, information)}
        sboms = {name: _read(archive, name) for name in names if _is_bill(name, information)}
    licence, is_spdx = _declared(found.get_all("License-Expression", []), found)
    if not licence or not texts:
        raise RequestError(
            f"{wheel.name} carries no licence",
            code="licence_missing",
            hint="a package may be handed on only with the text of its licence",
        )
    return Package(
        name=canonicalize_name(str(found["Name"])),
        version=str(found["Version"]),
        summary=str(found["Summary"] or ""),
        licence=licence,
        is_spdx=is_spdx,
        texts={name.removeprefix(f"{information}/"): text for name, text in texts.items()},
        sboms={name.rpartition("/")[2]: text for name, text in sboms.items()},
    )


def write(bundle: Path, packages: Iterable[Package]) -> None:
    """`licences/<package>-<version>/…`: each text once, under its path in the wheel."""
    for package in packages:
        base = f"{FOLDER}/{package.name}-{package.version}"
        for name, text in package.texts.items():
            path = f"{base}/{_plain(name.removeprefix('licenses/'))}"
            place = bundle / path
            if place.exists() and place.read_bytes() != text:  # two wheels of one release that differ
                raise RequestError(f"two texts of one licence: {path}", code="licence_differs")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(text)


def for_model(model: str, licence: str, given: Path | None, kept: Path) -> bytes:
    """A model's licence text: as given, else as kept in `models/licences/<licence>.txt`.

    RequestError where there is none, or where it is empty.
    """
    place = given or kept / f"{_plain(licence)}.txt"
    text = place.read_bytes()[:_MAX_TEXT_BYTES] if place.is_file() else b""
    if not text.strip():
        raise RequestError(
            f"no licence on file for {model}: a model is packed only with its licence's text",
            code="licence_missing",
            hint=f"name it with --licence FILE, or keep it as models/licences/{_plain(licence)}.txt",
        )
    return text


def model_path(model: str) -> str:
    """Where a model's licence lies in a bundle."""
    return f"{FOLDER}/models/{_plain(model)}.txt"


def _declared(expressions: list[str], found: email.message.Message) -> tuple[str, bool]:
    """SPDX where the wheel writes it, else its own words, shortened; its classifiers at last."""
    free = str(found["License"] or "").strip()
    for each in (*expressions, free):
        try:
            return canonicalize_license_expression(each), True
        except InvalidLicenseExpression:
            continue
    classifiers = [
        each.removeprefix(_CLASSIFIER)
        for each in found.get_all("Classifier", [])
        if each.startswith(_CLASSIFIER)
    ]
    return " / ".join(classifiers) or free.partition("\n")[0][:100], False


def _is_text(name: str, information: str) -> bool:
    if name.endswith("/") or _CODE.search(name):
        return False
    return name.startswith(f"{information}/licenses/") or _TEXT.search(name) is not None


def _is_bill(name: str, information: str) -> bool:
    return name.startswith(f"{information}/sboms/") and name.endswith(".json")


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MAX_TEXT_BYTES:
        raise RequestError(f"too large for a licence: {name[:160]}", code="bad_wheel")
    return archive.read(name)


def _plain(path: str) -> str:
    """A path that a bundle can hold: what is not plain ASCII becomes an underscore."""
    parts = [_UNPRINTED.sub("_", part).lstrip(".-") or "_" for part in path.split("/") if part]
    found = "/".join(parts)
    if not layout.is_path(f"{FOLDER}/{found}"):
        raise RequestError(f"not a name that a bundle can hold: {path[:160]!r}")
    return found
