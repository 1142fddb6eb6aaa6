"""The store: models and wheels of the releases that are kept, each under the digest of its bytes.

    store/sha256/ab/<64 hexadecimal digits>

Root owns it, everybody may read it. Nothing gets its name before it was hashed where it lies; a name that is
there is not believed but hashed again by whoever relies on it. Models come in parts of 256 MiB: they are put
one behind the other and each is removed as soon as its bytes are on the disk, so that a model never needs its
room twice. A crash at any point is continued from there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance import durable
from appliance.bundle import layout, manifest, reading, room
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Blob, Manifest
from appliance.bundle.meter import Told
from appliance.bundle.refusals import BundleRefused, Exit

FILE_MODE: Final = 0o644
_JOINING: Final = ".joining"
_PUTTING: Final = ".putting"
# File systems that can not share or copy a range in the kernel say so in one of these ways.
_NO_RANGES: Final = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed and kept, in files and bytes."""

    removed: tuple[str, ...]
    num_removed_bytes: int
    num_kept: int


def place(site: Site, sha256: str) -> Path:
    """Where content of this digest lies, or would."""
    return layout.stored(site.store, sha256)


def held(site: Site) -> dict[str, int]:
    """Bytes of everything in the store, by digest; by name only, so hash what you rely on."""
    return {path.name: path.lstat().st_size for path in _files(site) if layout.DIGEST.fullmatch(path.name)}


def needed(of: Manifest) -> dict[str, int]:
    """Bytes of what a release keeps in the store, by digest: its models, and its wheels for a repair."""
    found = {each.sha256: each.size for each in of.files if each.role == "wheel"}
    return found | {blob.sha256: blob.size for blob in of.blobs}


def is_whole(site: Site, sha256: str, told: Told | None = None) -> bool:
    """Whether the store holds this content, unaltered. It is read in full; unreadable is not held."""
    path = place(site, sha256)
    try:
        return reading.hash_file(path.parent, path.name, told).sha256 == sha256
    except (OSError, BundleRefused):  # absent, unreadable, or no plain file: the caller brings another
        return False


def verify(site: Site, sha256: str, told: Told | None = None) -> None:
    """BundleRefused: 14 where it is not held, 22 where it can not be read, 16 where it is altered."""
    path = place(site, sha256)
    try:
        found = reading.hash_file(path.parent, path.name, told)
    except FileNotFoundError as error:
        raise BundleRefused(Exit.MISSING, f"the store does not hold {sha256}") from error
    except OSError as error:
        raise BundleRefused(Exit.DISK, f"{path} can not be read: {error.strerror}") from error
    if found.sha256 != sha256:
        raise BundleRefused(
            Exit.WRONG_DIGEST,
            f"{path} holds other bytes than its name says",
            hint="import a bundle that holds it again: the store is mended from there",
        )


def put(site: Site, sha256: str, source: Path, told: Told | None = None) -> None:
    """Take a file in: linked where that is possible, copied otherwise, and hashed in its place.

    An altered file of that name is replaced. BundleRefused: 14 where neither the store nor `source` has it,
    16 where the bytes are others, 22 on a full disk.
    """
    target = place(site, sha256)
    if target.exists() and is_whole(site, sha256, told):
        return
    if not source.exists():
        raise BundleRefused(Exit.MISSING, f"{source.name} is neither staged nor in the store")
    temporary = target.with_name(f".{sha256}{_PUTTING}")
    with room.writing(site.store):
        durable.make_public_dir(target.parent)
        temporary.unlink(missing_ok=True)
        _link_or_copy(source, temporary)
        _own(temporary)
    found = reading.hash_file(temporary.parent, temporary.name, told)
    if found.sha256 != sha256:
        temporary.unlink()
        raise BundleRefused(Exit.WRONG_DIGEST, f"{source} is not {sha256}")
    _name(temporary, target)


def adopt(site: Site, staging: Path, of: Manifest, told: Told | None = None) -> None:
    """Take a verified bundle's models and wheels in. The parts of models leave the staging folder.

    Can be called again after a crash at any point. BundleRefused: 14, 16, 22 as `put` and `join` say.
    """
    for each in of.files:
        if each.role == "wheel":
            put(site, each.sha256, staging / each.path, told)
    for blob in of.blobs:
        if blob.parts:
            join(site, blob, staging, told)
        else:
            put(site, blob.sha256, staging / layout.blob_path(blob.sha256), told)


def join(site: Site, blob: Blob, staging: Path, told: Told | None = None) -> None:
    """Put a model's parts together. BundleRefused: 14 where one is missing, 16 where the whole is altered."""
    target = place(site, blob.sha256)
    parts = [staging / path for path in blob.paths]
    if target.exists() and is_whole(site, blob.sha256, told):
        for part in parts:
            part.unlink(missing_ok=True)
        return
    joining = target.with_name(f".{blob.sha256}{_JOINING}")
    with room.writing(site.store):
        durable.make_public_dir(target.parent)
        fd = os.open(joining, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        for number, part in enumerate(parts):
            begin = number * blob.part_size
            _append(part, fd, begin, min(blob.part_size, blob.size - begin))
    finally:
        os.close(fd)
    found = reading.hash_file(joining.parent, joining.name, told)
    if (found.sha256, found.size) != (blob.sha256, blob.size):
        joining.unlink()
        raise BundleRefused(
            Exit.WRONG_DIGEST,
            f"the parts of {blob.name} are as they were listed, but the whole is not {blob.sha256}",
            hint="import the bundle's parts again",
        )
    _own(joining)
    _name(joining, target)


def collect(site: Site) -> Collected:
    """Remove what no kept release and no staged bundle needs. Only while the installer's lock is held.

    A release whose manifest can't be read keeps everything: BundleRefused (11) names it.
    """
    kept = [*_listed(site.releases), *_listed(site.staging)]
    keep = {digest for each in _manifests(kept) for digest in needed(each)}
    removed: list[str] = []
    num_bytes = num_kept = 0
    for path in list(_files(site)):
        digest = path.name.lstrip(".").partition(".")[0]
        if digest in keep and not path.name.endswith(_PUTTING):
            num_kept += 1
            continue
        num_bytes += path.lstat().st_size
        path.unlink()
        durable.fsync_dir(path.parent)
        removed.append(path.name)
    return Collected(tuple(removed), num_bytes, num_kept)


def releases(site: Site) -> Iterator[Manifest]:
    """Manifests of the releases that this host keeps."""
    return _manifests(_listed(site.releases))


def _manifests(folders: Iterable[Path]) -> Iterator[Manifest]:
    for folder in sorted(folders):
        if folder.name.startswith("."):
            continue  # notes about volumes, temporary files
        path = folder / layout.MANIFEST
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if (folder / ".complete").exists():
                raise BundleRefused(
                    Exit.BAD_METADATA, f"{folder} is a release without a manifest: nothing is removed"
                ) from None
            continue  # only begun: what it needs is staged, and staged files are not in the store
        yield manifest.parse(data)


def _files(site: Site) -> Iterator[Path]:
    for folder in sorted(_listed(site.store / "sha256")):
        yield from sorted(_listed(folder))


def _listed(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from folder.iterdir()


def _append(part: Path, fd: int, begin: int, length: int) -> None:
    """A part's bytes at their place, durably; then the part is removed.

    Where the part is gone, a run before this one came that far: it was removed after the file was synced.
    """
    try:
        source = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if os.fstat(fd).st_size >= begin + length:
            return
        raise BundleRefused(Exit.MISSING, f"a part of a model is not staged: {part.name}") from error
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode) or status.st_size != length:
            raise BundleRefused(Exit.WRONG_DIGEST, f"{part.name} has not the {length} bytes that are listed")
        with room.writing(part):
            _copy_range(source, fd, begin, length)
            os.fsync(fd)
    finally:
        os.close(source)
    part.unlink()


def _copy_range(source: int, target: int, begin: int, length: int) -> None:
    done = 0
    try:
        while done < length:
            copied = os.copy_file_range(source, target, length - done, done, begin + done)
            if not copied:
                break
            done += copied
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
    while done < length:
        chunk = os.pread(source, min(reading.CHUNK_BYTES, length - done), done)
        if not chunk:
            raise OSError(errno.EIO, "the part ended early")
        done += os.pwrite(target, chunk, begin + done)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
            raise
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            reading.hash_all(source.parent, (source.name,), to=lambda chunk: durable.write_all(fd, chunk))
        finally:
            os.close(fd)


def _own(path: Path) -> None:
    """Root's, readable by everybody, whatever the umask says; on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(fd, FILE_MODE)
        if os.geteuid() == 0:
            os.fchown(fd, 0, 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def _name(temporary: Path, target: Path) -> None:
    temporary.replace(target)
    durable.fsync_dir(target.parent)
