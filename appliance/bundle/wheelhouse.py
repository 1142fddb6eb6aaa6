"""Which wheels a lock needs on which Python, and whether a folder has every one of them.

The lock is universal: its markers are evaluated here for CPython on Linux x86-64, for the first and the last
patch release of a version. A wheel counts where its digest is in the lock and its tags fit an interpreter of
that version under the oldest C library that we name. `pip download` is told every tag in the list: with one
tag only it takes old and early releases that happen to carry it (pip#10760).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from appliance.errors import RequestError

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
# The C library of RHEL 9, down to the oldest one that wheels are made for today.
PLATFORMS: Final = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(34, 16, -1)),
    "manylinux2014_x86_64",
)
_LAST_PATCH: Final = 99
_PYTHON: Final = re.compile(r"3\.[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Locked:
    """One requirement of a lock: exactly this version, as one of these files."""

    name: str
    version: Version
    marker: Marker | None
    sha256: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class Choice:
    """For one Python: the wheels' file names, and the requirements that no wheel meets."""

    python: str
    wheels: tuple[str, ...]
    missing: tuple[Locked, ...]


def parse_lock(text: str) -> tuple[Locked, ...]:
    """A lock as `uv pip compile --generate-hashes` writes it. RequestError names a line that is none."""
    lines = (line.partition("#")[0].strip() for line in text.replace("\\\n", " ").splitlines())
    return tuple(_locked(line) for line in lines if line)


def wanted(lock: Iterable[Locked], python: str) -> list[Locked]:
    """What this Python installs: each marker is true for its first or its last patch release."""
    environments = [_environment(f"{python}.{patch}") for patch in (0, _LAST_PATCH)]
    return [
        each for each in lock if each.marker is None or any(each.marker.evaluate(env) for env in environments)
    ]


def tags(python: str) -> list[Tag]:
    """What this Python takes, best first."""
    if _PYTHON.fullmatch(python) is None:
        raise RequestError(f"not a version of Python: {python[:20]!r}", hint="3.11, 3.12, …")
    version = (3, int(python.partition(".")[2]))
    interpreter = "cp" + "".join(map(str, version))
    return [
        *cpython_tags(version, abis=[interpreter], platforms=PLATFORMS),
        *compatible_tags(version, interpreter=interpreter, platforms=PLATFORMS),
    ]


def choose(lock: Iterable[Locked], wheels: Mapping[str, str], python: str) -> Choice:
    """For each requirement the best wheel among `wheels` (SHA-256 by file name)."""
    ranks = {tag: rank for rank, tag in enumerate(tags(python))}
    offered = [(name, sha256, *_name_of(name)) for name, sha256 in sorted(wheels.items())]
    chosen: list[str] = []
    missing: list[Locked] = []
    for each in wanted(lock, python):
        fitting = [
            (min(ranks[tag] for tag in found if tag in ranks), name)
            for name, sha256, package, version, found in offered
            if (package, version) == (each.name, each.version)
            and sha256 in each.sha256
            and found & ranks.keys()
        ]
        if fitting:
            chosen.append(min(fitting)[1])
        else:
            missing.append(each)
    return Choice(python, tuple(sorted(chosen)), tuple(missing))


def require_complete(choices: Iterable[Choice]) -> list[str]:
    """All the wheels, sorted, or a RequestError that names what each Python lacks."""
    choices = list(choices)
    lacking = [
        f"Python {each.python}: {', '.join(map(str, each.missing))}" for each in choices if each.missing
    ]
    if lacking:
        raise RequestError(
            "the wheelhouse is not complete: " + "; ".join(lacking),
            code="wheel_missing",
            hint="make wheelhouse fetches what the lock names, by digest",
        )
    return sorted({name for each in choices for name in each.wheels})


def lock_for(lock: Iterable[Locked], python: str) -> str:
    """The lock of one Python, without markers: pip would evaluate them for the Python that runs it."""
    return "".join(
        " \\\n    ".join([str(each), *(f"--hash=sha256:{digest}" for digest in sorted(each.sha256))]) + "\n"
        for each in wanted(lock, python)
    )


def download_options(python: str) -> list[str]:
    """`pip download`'s words for this Python on any host we name."""
    interpreter = "cp" + python.replace(".", "")
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    abis = [f"--abi={abi}" for abi in (interpreter, "abi3", "none")]
    return ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *abis, *platforms]


def only(wheel: Path, sha256: str) -> Locked:
    """A requirement that this very file meets: for a wheel that is made here and so in no lock."""
    package, version, _ = _name_of(wheel.name)
    return Locked(package, version, None, frozenset({sha256}))


def _locked(line: str) -> Locked:
    requirement, *options = re.split(r"\s+--hash=", line)
    try:
        found = Requirement(requirement)
    except InvalidRequirement as error:
        raise RequestError(f"not a line of a lock: {line[:80]!r}", code="bad_lock") from error
    versions = list(found.specifier)
    hashes = [each.strip().removeprefix("sha256:") for each in options]
    if (
        len(versions) != 1
        or versions[0].operator != "=="
        or not hashes
        or not all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes)
    ):
        raise RequestError(f"not one version with its digests: {line[:80]!r}", code="bad_lock")
    return Locked(
        canonicalize_name(found.name), Version(versions[0].version), found.marker, frozenset(hashes)
    )


def _name_of(wheel: str) -> tuple[str, Version, frozenset[Tag]]:
    try:
        name, version, _, found = parse_wheel_filename(wheel)
    except InvalidWheelFilename as error:
        raise RequestError(f"not the name of a wheel: {wheel[:120]}", code="bad_wheel") from error
    return name, version, found


def _environment(full_version: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": full_version,
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full_version,
        "python_version": full_version.rpartition(".")[0],
        "sys_platform": "linux",
        "extra": "",
    }
