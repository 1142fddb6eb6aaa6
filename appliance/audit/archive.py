"""Evidence as one file or as a folder: the same files are the same bytes, and reading is bounded.

A zip is stored without compression, in order, without dates: nothing in it can grow on opening, and
whoever reads one that claims otherwise refuses it before anything is read.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Final

from appliance import durable
from appliance.errors import VerificationError

MAX_BYTES: Final = 1 << 30
MAX_FILES: Final = 100_000
MAX_NAME_CHARACTERS: Final = 200
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3
_ENCRYPTED: Final = 0x1
# What zipfile raises for archives that are cut off, damaged, encrypted or compressed in unknown ways.
_UNREADABLE: Final = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError,
    OverflowError, IndexError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """One file of an export. Its chunks come once, and whole before the next file's."""

    name: str
    size: int  # bytes, or as many as it may have
    chunks: Iterable[bytes] = field(repr=False)


def files_of(files: Mapping[str, bytes]) -> Iterator[File]:
    """Files that are here already, in order."""
    return (File(name, len(files[name]), [files[name]]) for name in sorted(files))


def zipped(files: Iterable[File]) -> Iterator[bytes]:
    """A zip, piece by piece: memory does not grow with it."""
    buffer = _Buffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for each in files:
            info = zipfile.ZipInfo(each.name, _EPOCH)
            info.create_system = _UNIX  # wherever it runs
            info.external_attr = 0o644 << 16
            info.file_size = each.size
            with archive.open(info, "w") as file:
                for chunk in each.chunks:
                    file.write(chunk)
                    yield buffer.drain()
    yield buffer.drain()


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip of these files."""
    return b"".join(zipped(files_of(files)))


def write_folder(root: Path, files: Iterable[File]) -> int:
    """A fresh folder with these files, each durable; how many they are."""
    durable.make_private_dir(root)
    count = 0
    for each in files:
        path = root / each.name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, each.chunks)
        count += 1
    return count


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
    durable.fsync_dir(path.parent)


class _Buffer:
    """What zipfile has written since it was asked last. It can not seek: a zip goes out as it is made."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def drain(self) -> bytes:
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of a zip. VerificationError where it is none, or one that ours never are."""
    return _read_zip(io.BytesIO(data))


def read(path: Path) -> dict[str, bytes]:
    """The files of a zip or of a folder. VerificationError as `unpack`."""
    if path.is_dir():
        return _read_folder(path)
    try:
        with path.open("rb") as file:
            if path.stat().st_size > 2 * MAX_BYTES:
                raise VerificationError("the archive is too large")
            return _read_zip(file)
    except OSError as error:
        raise VerificationError("the archive can not be read") from error


def _read_zip(file: IO[bytes]) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            _check(infos)
            return {info.filename: archive.read(info) for info in infos}
    except _UNREADABLE as error:
        raise VerificationError("the archive can not be read") from error


def _check(infos: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in infos]
    if len(set(names)) != len(names) or len(names) > MAX_FILES:
        raise VerificationError("the archive names a file twice, or too many")
    if not all(map(_is_plain, names)):
        raise VerificationError("the archive names a file outside of itself")
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise VerificationError("the archive is too large")
    if any(
        info.compress_type != zipfile.ZIP_STORED
        or info.compress_size != info.file_size
        or info.flag_bits & _ENCRYPTED
        for info in infos
    ):
        raise VerificationError("the archive is compressed or encrypted, which evidence never is")


def _is_plain(name: str) -> bool:
    """A relative path of ordinary parts: who unpacks it writes nowhere else."""
    path = PurePosixPath(name)
    return (
        0 < len(name) <= MAX_NAME_CHARACTERS
        and name.isascii()
        and name.isprintable()
        and "\\" not in name
        and not path.is_absolute()
        and str(path) == name
        and ".." not in path.parts
    )


def _read_folder(path: Path) -> dict[str, bytes]:
    found = [each for each in sorted(path.rglob("*")) if each.is_file() and not each.is_symlink()]
    if len(found) > MAX_FILES or sum(each.stat().st_size for each in found) > MAX_BYTES:
        raise VerificationError("the folder is too large")
    return {each.relative_to(path).as_posix(): each.read_bytes() for each in found}
