"""What native code in a wheel needs of a host: read from the files themselves, so that nothing is guessed.

The floor is RHEL 9: glibc 2.34, GCC 11's libstdc++. A library that needs more, or one that neither the host's
base nor the wheel has (a bare Debian has no libgomp), would fail on a host that nobody here can try; so it
fails where the bundle is built. Format: System V ABI, "Dynamic Linking"; symbol versions: LSB 5.0, 10.7.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from appliance.errors import RequestError

MAGIC: Final = b"\x7fELF"
CEILINGS: Final = {
    "GLIBC": (2, 34),
    "GLIBCXX": (3, 4, 29),
    "CXXABI": (1, 3, 13),
    "GCC": (11, 0, 0),
    "ZLIB": (1, 2, 11),
}
# What every host has before anything is installed: glibc, and what its own package manager is made with.
HOST: Final = frozenset(
    {
        "ld-linux-x86-64.so.2",
        "libc.so.6",
        "libdl.so.2",
        "libgcc_s.so.1",
        "libm.so.6",
        "libpthread.so.0",
        "libresolv.so.2",
        "librt.so.1",
        "libstdc++.so.6",
        "libutil.so.1",
        "libz.so.1",
    }
)
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _VERNEED, _VERNEEDNUM = 1, 5, 0x6FFFFFFE, 0x6FFFFFFF
_X86_64: Final = 62


@dataclass(frozen=True, slots=True)
class Needs:
    """Libraries by name, and (library, version) of each symbol version asked of them."""

    libraries: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]


def needs(data: bytes) -> Needs:
    """What one shared object or program needs. RequestError where it is none for x86-64."""
    try:
        return _needs(data)
    except (struct.error, IndexError, ValueError, KeyError) as error:
        raise RequestError("not a shared object of x86-64", code="bad_elf") from error


def problems(wheel: Path) -> list[str]:
    """Why a wheel would not run on the oldest host; empty where it would."""
    with zipfile.ZipFile(wheel) as archive:
        native = {name: archive.read(name) for name in archive.namelist() if _is_native(archive, name)}
    inside = {PurePosixPath(name).name for name in native}
    return [
        f"{wheel.name}: {problem}"
        for name in sorted(native)
        for problem in problems_of(name, native[name], inside)
    ]


def problems_of(name: str, data: bytes, beside: set[str]) -> list[str]:
    """The same of one library, with others `beside` it."""
    return [f"{name}: {problem}" for problem in _problems(needs(data), beside)]


def _problems(found: Needs, inside: set[str]) -> Iterator[str]:
    for library in found.libraries:
        if library not in HOST | inside:
            yield f"needs {library}, which is neither in the wheel nor on a bare host"
    for library, version in found.versions:
        name, _, number = version.rpartition("_")
        if library in inside:
            continue
        if name not in CEILINGS or not number.replace(".", "").isdigit():
            yield f"needs {version} of {library}, for which no highest version is set"
        elif tuple(map(int, number.split("."))) > CEILINGS[name]:
            highest = ".".join(map(str, CEILINGS[name]))
            yield f"needs {version}; the oldest host has {name}_{highest}"


def _is_native(archive: zipfile.ZipFile, name: str) -> bool:
    with archive.open(name) as file:
        return file.read(4) == MAGIC


def _needs(data: bytes) -> Needs:
    kind, order = data[4], data[5]
    (machine,) = struct.unpack_from("<H", data, 18)
    if data[:4] != MAGIC or (kind, order, machine) != (2, 1, _X86_64):
        raise ValueError("another kind of file")
    offset, size, count = (
        *struct.unpack_from("<Q", data, 32),
        *struct.unpack_from("<HH", data, 54),
    )
    segments = [struct.unpack_from("<IIQQQQQQ", data, offset + size * each) for each in range(count)]
    dynamic = next((each for each in segments if each[0] == _DYNAMIC), None)
    if dynamic is None:
        return Needs((), ())
    tags = [struct.unpack_from("<QQ", data, dynamic[2] + 16 * each) for each in range(dynamic[5] // 16)]
    if (0, 0) in tags:
        tags = tags[: tags.index((0, 0))]
    first = dict(reversed(tags))

    def place(address: int) -> int:
        for each in segments:
            if each[0] == _LOAD and each[3] <= address < each[3] + each[5]:
                return int(each[2] + address - each[3])
        raise ValueError("an address outside the file")

    if _STRTAB not in first:
        return Needs((), ())
    strings = place(first[_STRTAB])

    def text(at: int) -> str:
        return data[strings + at : data.index(b"\0", strings + at)].decode("ascii")

    libraries = tuple(text(value) for tag, value in tags if tag == _NEEDED)
    versions: list[tuple[str, str]] = []
    if _VERNEED in first:
        at = place(first[_VERNEED])
        for _ in range(first[_VERNEEDNUM]):
            _, num_versions, file, auxiliary, following = struct.unpack_from("<HHIII", data, at)
            version = at + auxiliary
            for _ in range(num_versions):
                _, _, _, name, step = struct.unpack_from("<IHHII", data, version)
                versions.append((text(file), text(name)))
                version += step
            at += following
    return Needs(libraries, tuple(versions))
