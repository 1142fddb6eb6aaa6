"""The Update Framework's view of a bundle: made unsigned here, and believed by python-tuf's client.

Three documents: targets (every file's digest; the manifest's entry carries serial, moment of building and
revoked serials), snapshot and timestamp. Their version is `serial * 1000`, plus one for each refresh, so that
a later date and a later release are both newer than what was before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from appliance.bundle import layout, roots
from appliance.bundle.manifest import Manifest, Moment, Serial, digests
from appliance.bundle.refusals import BundleRefused, Exit

VERSIONS_PER_SERIAL: Final = 1000
TIMESTAMP: Final = "timestamp.json"
_ROLES: Final = ("timestamp", "snapshot", "targets")


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the signers say about a bundle beside its digests. `revoked`: serials never to be installed."""

    serial: Serial
    built: Moment
    revoked: tuple[Serial, ...] = ()


@dataclass(frozen=True, slots=True)
class Believed:
    """Metadata that the client believes. `chain`: every root from the first known one on."""

    chain: tuple[bytes, ...]
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    claims: Claims
    files: dict[str, tuple[str, int]]
    signers: tuple[str, ...]
    expires: datetime

    @property
    def root(self) -> Root:
        return roots.parse(self.chain[-1]).signed


def make(
    files: Mapping[str, tuple[str, int]], claims: Claims, version: int, expires: datetime
) -> dict[str, bytes]:
    """The three documents by file name, unsigned. `files`: (SHA-256, bytes) by path."""
    targets = Targets(version=version, expires=expires)
    for path, (sha256, size) in sorted(files.items()):
        custom = {"custom": msgspec.to_builtins(claims)} if path == layout.MANIFEST else None
        targets.targets[path] = TargetFile(size, {"sha256": sha256}, path, custom)
    snapshot = Snapshot(version=version, expires=expires, meta={"targets.json": MetaFile(version)})
    timestamp = Timestamp(version=version, expires=expires, snapshot_meta=MetaFile(version))
    return {
        f"{version}.targets.json": dump(Metadata(targets)),
        f"{version}.snapshot.json": dump(Metadata(snapshot)),
        TIMESTAMP: dump(Metadata(timestamp)),
    }


def dump(document: Metadata[Any]) -> bytes:
    """A document's bytes."""
    return document.to_bytes(JSONSerializer()) + b"\n"


def read(folder: Path) -> dict[str, bytes]:
    """The metadata files of a bundle's folder, by name. BundleRefused (11, 14)."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or not path.is_file() or path.stat().st_size > layout.MAX_METADATA_BYTES:
            raise BundleRefused(Exit.BAD_METADATA, f"{path.name[:80]!r} is no metadata, or too large")
        found[path.name] = path.read_bytes()
    if TIMESTAMP not in found:
        raise BundleRefused(Exit.MISSING, "the metadata is not there")
    return found


def version_of(timestamp: bytes) -> int:
    """Which of several a timestamp is; nothing verified. BundleRefused (11)."""
    return int(_document(timestamp, Timestamp).signed.version)


def documents(files: Mapping[str, bytes]) -> dict[str, tuple[Metadata[Any], str]]:
    """The newest targets, snapshot and timestamp with their roles, by file name; nothing verified."""
    version = version_of(files.get(TIMESTAMP, b""))
    names: dict[str, type[Targets | Snapshot | Timestamp]] = {
        f"{version}.targets.json": Targets,
        f"{version}.snapshot.json": Snapshot,
        TIMESTAMP: Timestamp,
    }
    found = {}
    for name, kind in names.items():
        if name not in files:
            raise BundleRefused(Exit.MISSING, f"{layout.METADATA}/{name} is not there")
        found[name] = (_document(files[name], kind), kind.type)
    return found


def unsigned(
    files: Mapping[str, bytes], root: Root | None = None
) -> tuple[dict[str, tuple[str, int]], Claims]:
    """What the newest targets say. With `root`: BundleRefused (15) where too few of its signers signed."""
    document = next(each for each, role in documents(files).values() if role == Targets.type)
    if root is not None:
        result = root.get_verification_result(Targets.type, document.signed_bytes, document.signatures)
        if not result.verified:
            raise BundleRefused(Exit.BAD_SIGNATURE, "too few signers signed this metadata")
    return _content(document.signed)


def listed(targets: bytes) -> dict[str, tuple[str, int]]:
    """The files that a targets document names, (SHA-256, bytes) by path; nothing verified."""
    return _content(_document(targets, Targets).signed)[0]


def believe(
    bootstrap: bytes, files: Mapping[str, bytes], remembered: Mapping[str, bytes], now_us: int
) -> Believed:
    """What `files` say, where they are newer than what is remembered, and where `bootstrap` leads to them.

    BundleRefused: expired (12), not signed by enough (15), contradictory (11), missing (14), older (102).
    """
    with tempfile.TemporaryDirectory(prefix="appliance-trust-") as temporary:
        place = Path(temporary)
        for name, data in remembered.items():
            (place / name).write_bytes(data)
        try:
            updater = Updater(
                temporary, metadata_base_url="bundle:/", fetcher=_Files(files), bootstrap=bootstrap
            )
            # The client offers no way to tell it the time; it asks the clock once, here.
            updater._trusted_set.reference_time = datetime.fromtimestamp(now_us / 1e6, tz=UTC)  # noqa: SLF001
            updater.refresh()
        except (tuf_errors.RepositoryError, tuf_errors.DownloadError) as error:
            raise _refused(error, is_older=_is_older(files, remembered)) from error
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise BundleRefused(Exit.BAD_METADATA, f"the metadata is not in its format: {error}") from error
        except OSError as error:
            raise BundleRefused(
                Exit.DISK, f"the temporary folder can not be written: {error.strerror}"
            ) from error
        first = roots.parse(bootstrap).signed.version
        history = place / "root_history"
        chain: list[bytes] = []
        while (one := history / roots.path(first + len(chain))).exists():
            chain.append(one.read_bytes())
        kept = {role: (place / f"{role}.json").read_bytes() for role in _ROLES}
    return _believed(tuple(chain), kept)


def agree(sums: Mapping[str, str], manifest: Manifest, believed: Believed) -> None:
    """Refuses (11) a bundle whose lists do not say the same."""
    listed = {path: sha256 for path, (sha256, _) in believed.files.items()}
    if listed != sums:
        odd = min(set(listed.items()) ^ set(sums.items()))[0]
        raise BundleRefused(Exit.BAD_METADATA, f"SHA256SUMS and the metadata differ about {odd}")
    compare(sums, manifest)
    sizes = {path: size for path, (_, size) in believed.files.items()}
    for path, (_, size) in digests(manifest).items():
        if sizes[path] != size:
            raise BundleRefused(Exit.BAD_METADATA, f"the manifest and the metadata differ about {path}")
    if (believed.claims.serial, believed.claims.built) != (manifest.serial, manifest.built):
        raise BundleRefused(Exit.BAD_METADATA, "the metadata is of another bundle than the manifest")


def compare(sums: Mapping[str, str], manifest: Manifest) -> None:
    """Refuses (11) a manifest and a list that differ. Only trust's own files stand in the list alone."""
    known = digests(manifest)
    for path, (sha256, _) in known.items():
        if sums.get(path) != sha256:
            raise BundleRefused(Exit.BAD_METADATA, f"SHA256SUMS and the manifest differ about {path}")
    for path in sums.keys() - known.keys() - {layout.MANIFEST}:
        if not path.startswith((f"{layout.KEYS}/", f"{layout.METADATA}/")):
            raise BundleRefused(Exit.BAD_METADATA, f"SHA256SUMS has {path}, which the manifest has not")


def _believed(chain: tuple[bytes, ...], kept: Mapping[str, bytes]) -> Believed:
    document = _document(kept["targets"], Targets)
    root = roots.parse(chain[-1]).signed
    signed = root.get_verification_result("targets", document.signed_bytes, document.signatures).signed
    files, claims = _content(document.signed)
    ends = (_document(kept[each.type], each).signed.expires for each in (Timestamp, Snapshot))
    return Believed(
        chain=chain,
        timestamp=kept["timestamp"],
        snapshot=kept["snapshot"],
        targets=kept["targets"],
        claims=claims,
        files=files,
        signers=tuple(sorted(signed)),
        expires=min(document.signed.expires, root.expires, *ends),
    )


def _content(targets: Targets) -> tuple[dict[str, tuple[str, int]], Claims]:
    files = {}
    for path, target in targets.targets.items():
        if not layout.is_path(path) or "sha256" not in target.hashes:
            raise BundleRefused(Exit.BAD_METADATA, f"the metadata names what no bundle has: {path[:80]!r}")
        files[path] = (target.hashes["sha256"], target.length)
    if targets.delegations is not None or layout.MANIFEST not in files:
        raise BundleRefused(Exit.BAD_METADATA, "the metadata delegates, or has no manifest")
    try:
        claims = msgspec.convert(targets.targets[layout.MANIFEST].custom, Claims)
    except msgspec.ValidationError as error:
        raise BundleRefused(Exit.BAD_METADATA, f"the metadata says nothing about itself: {error}") from error
    return files, claims


def _document(data: bytes, kind: type[Timestamp | Snapshot | Targets]) -> Metadata[Any]:
    try:
        document = roots.document_of(data)
    except (tuf_errors.RepositoryError, RecursionError) as error:
        raise BundleRefused(Exit.BAD_METADATA, f"metadata is not in its format: {error}") from error
    if not isinstance(document.signed, kind):
        raise BundleRefused(Exit.BAD_METADATA, "a metadata file holds other metadata")
    return document


def _is_older(files: Mapping[str, bytes], remembered: Mapping[str, bytes]) -> bool:
    if TIMESTAMP not in remembered or TIMESTAMP not in files:
        return False
    return version_of(files[TIMESTAMP]) < version_of(remembered[TIMESTAMP])


def _refused(error: Exception, *, is_older: bool) -> BundleRefused:
    """The client's words for it, and our number."""
    match error:
        case tuf_errors.ExpiredMetadataError():
            hint = "ask for a refresh: the same bundle, signed with a later date"
            return BundleRefused(Exit.EXPIRED, f"the bundle has expired: {error}", hint=hint)
        case tuf_errors.UnsignedMetadataError():
            return BundleRefused(Exit.BAD_SIGNATURE, f"too few signers of the trusted root: {error}")
        case tuf_errors.DownloadHTTPError():
            return BundleRefused(Exit.MISSING, f"metadata is missing: {error}")
        case tuf_errors.BadVersionNumberError() if is_older:
            return BundleRefused(Exit.DOWNGRADE, f"older than what was believed: {error}")
        case _:
            return BundleRefused(Exit.BAD_METADATA, f"the metadata is not in order: {error}")


class _Files(FetcherInterface):
    """The client's network: files that were read before, by name."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        if name not in self._files:
            raise tuf_errors.DownloadHTTPError(name, 404)
        return iter([self._files[name]])
