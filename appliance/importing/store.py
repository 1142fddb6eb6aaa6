"""Copies into the home's store, all or nothing: hashed as they are read, known only when they are whole.

A copy grows in `models/incoming`, which no catalogue looks into: what a crash or a full disk left there is
removed at the next import. Owner of that folder: who holds its lock.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance import durable
from appliance.catalog import store_path
from appliance.config import Home
from appliance.errors import SetupError, Unavailable
from appliance.importing.refusals import FileRefused
from appliance.models.cards import File
from appliance.models.specs import digest_of_parts, split_folder

Progress = Callable[[int, int], None]

_CHUNK_BYTES: Final = 8 * 1024 * 1024
_RESERVE_BYTES: Final = 256 * 1024 * 1024  # of the disk, for the record of what is done meanwhile
_MODE: Final = 0o444
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Copied:
    """Whole copies in `folder`, under the names that they came with."""

    folder: Path
    files: tuple[File, ...]

    @property
    def sha256(self) -> str:
        """The model's: of its one file, or of the list of its files."""
        return self.files[0].sha256 if len(self.files) == 1 else digest_of_parts(self.files)

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.files)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.folder / each.name for each in self.files)


@contextlib.contextmanager
def copied(home: Home, sources: Sequence[Path], progress: Progress | None = None) -> Iterator[Copied]:
    """Copies of files, gone at the end unless they were kept. SetupError where there is no room for them."""
    durable.make_private_dir(home.models)
    busy = Unavailable("another model is imported at the moment", code="import_running")
    with durable.locked(home.models / ".importing", busy):
        folder = home.models / "incoming"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=durable.PRIVATE_DIR)
        try:
            yield _copy(folder, sources, progress)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def keep(home: Home, made: Copied) -> list[Path]:
    """Move whole copies to where the catalogue looks for them; those that were not there before.

    A file that is there already is hashed, and replaced where it is another one. A split model's folder gets
    its name when it is whole: a crash leaves no half of one.
    """
    if len(made.files) > 1:
        target = split_folder(home, made.sha256)
        source = made.folder
    else:
        target = store_path(home, made.sha256)
        source = made.paths[0]
    for path in made.paths:
        path.chmod(_MODE)
    _make_dirs(home, target.parent)
    if target.exists():
        if _is_whole(home, made):
            return []
        _remove(target)  # what the model was, somebody has altered
    source.replace(target)
    durable.fsync_dir(target.parent)
    return [target]


def remove(home: Home, sha256: str, *, is_split: bool) -> None:
    """Delete a model's files, durably. Nothing where they are gone."""
    target = split_folder(home, sha256) if is_split else store_path(home, sha256)
    if target.exists():
        _remove(target)
        durable.fsync_dir(target.parent)


def _remove(target: Path) -> None:
    if target.is_dir():
        gone = target.with_name(f"{target.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        target.replace(gone)  # at one moment: a split model is there, or it is not
        shutil.rmtree(gone)
    else:
        target.unlink()


def _copy(folder: Path, sources: Sequence[Path], progress: Progress | None) -> Copied:
    files = []
    done = 0
    try:
        total = sum(each.stat().st_size for each in sources)
        room = shutil.disk_usage(folder).free - _RESERVE_BYTES
        if total > room:
            raise _no_room(f"it needs {total} bytes, and {max(0, room)} are free beside the reserve")
        for source in sources:
            files.append(_copy_one(source, folder / source.name, done, total, progress))
            done += files[-1].size_bytes
        durable.fsync_dir(folder)
    except FileNotFoundError as error:
        raise FileRefused("bad_split", f"{Path(str(error.filename)).name} is missing") from error
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room("it was full before the copy was whole") from error
        raise SetupError(
            f"the file can not be copied: {error.strerror}",
            code="copy_failed",
            hint="the medium, or the disk of the home, is at fault; nothing was taken",
        ) from error
    return Copied(folder, tuple(files))


def _copy_one(source: Path, target: Path, done: int, total: int, progress: Progress | None) -> File:
    digest = hashlib.sha256()
    size = 0
    with source.open("rb", buffering=0) as reading, target.open("xb", buffering=0) as writing:
        before = os.fstat(reading.fileno())
        while chunk := reading.read(_CHUNK_BYTES):
            digest.update(chunk)
            durable.write_all(writing.fileno(), chunk)
            size += len(chunk)
            if progress is not None:
                progress(done + size, total)
        os.fsync(writing.fileno())
        after = os.fstat(reading.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
        raise FileRefused("model_altered", f"{source.name} changed while it was read")
    return File(source.name, digest.hexdigest(), size)


def _is_whole(home: Home, made: Copied) -> bool:
    """Whether what lies in the store is, to the byte, what was copied."""
    for each in made.files:
        split = len(made.files) > 1
        path = split_folder(home, made.sha256) / each.name if split else store_path(home, made.sha256)
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != each.sha256:
                    return False
        except OSError:
            return False
    return True


def _make_dirs(home: Home, folder: Path) -> None:
    """The store's folders: as open as the home's `models` is, where workers of other users read them."""
    mode = home.models.stat().st_mode & 0o777
    for each in (*reversed(folder.parents), folder):
        if each.is_relative_to(home.models) and not each.exists():
            each.mkdir(mode=mode)
            durable.fsync_dir(each.parent)


def _no_room(told: str) -> SetupError:
    return SetupError(
        f"the disk of the home has no room for this model: {told}",
        code="no_room",
        hint="remove a model that no alias stands for (appliance model remove), or give the home more room",
    )
