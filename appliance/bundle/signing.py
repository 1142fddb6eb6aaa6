"""From a folder that was built to a bundle that is signed: lists first, then one signer after another.

Signing only adds. Signers come in any order, twice does no harm, and nobody needs another's key: the folder
travels, or its small files do.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from tuf.api.metadata import Root

from appliance import durable
from appliance.bundle import folder, hashing, layout, manifest, metadata, roots, shellview, sums
from appliance.bundle.hashing import Wanted
from appliance.bundle.keys import Kind, PublicKey, PublicSigner, SignerKey
from appliance.bundle.manifest import Manifest
from appliance.bundle.metadata import Claims
from appliance.bundle.meter import Progress
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError

DAYS: Final = 730  # how long a bundle is good for, unless it is said otherwise
_MODE: Final = 0o644


def start(bundle: Path, root: Path, expires_days: int = DAYS, *, revoked: Iterable[int] = ()) -> None:
    """Writes the roots, the signers' public keys, `SHA256SUMS` and the metadata, all unsigned.

    `root`: the folder with the chain of roots. `expires_days`: from when the bundle was built. Earlier
    signatures are removed: it is another list now. BundleRefused where the roots do not hold or end before.
    """
    found = manifest.parse(shellview.small(bundle, layout.MANIFEST, layout.MAX_MANIFEST_BYTES))
    chain = roots.read(root)
    last = roots.check(chain)
    expires = roots.day_of(manifest.microseconds(found.built), expires_days)
    _check_ends(last, expires)
    _clear(bundle)
    for number, data in enumerate(chain, start=1):
        _write(bundle / layout.METADATA / roots.path(number), data)
    for signer in roots.signers(last, "targets"):
        for key in signer.keys:
            _write(bundle / layout.KEYS / f"{key.key_id}.{key.kind}.pem", key.pem)
    files = seal(bundle, found)
    claims = Claims(found.serial, found.built, tuple(sorted(set(revoked))))
    version = found.serial * metadata.VERSIONS_PER_SERIAL
    for name, data in metadata.make(files, claims, version, expires).items():
        _write(bundle / layout.METADATA / name, data)


def seal(bundle: Path, found: Manifest) -> dict[str, tuple[str, int]]:
    """Writes `SHA256SUMS`; (SHA-256, bytes) of what stands in it.

    As `folder.seal`, but the manifest's word is taken for its files (each signer hashes them), and what a
    delta leaves out is listed too.
    """
    files = dict(manifest.digests(found))
    for path in folder.paths(bundle):
        if path not in files and not layout.UNLISTED.fullmatch(path):
            files[path] = hashing.digest(bundle / path)
    _write(bundle / layout.SUMS, sums.dump({path: sha256 for path, (sha256, _) in files.items()}))
    folder.settle(bundle / layout.SUMS, manifest.microseconds(found.built) // 1_000_000)
    return files


def sign(
    bundle: Path,
    key: SignerKey,
    progress: Progress | None = None,
    *,
    partial: bool = False,
    root: Path | None = None,
) -> list[str]:
    """Adds one signer's signatures to all that the root lets them sign; the files that changed.

    Every file is hashed first: nobody signs a list that is not true. `root`: the signer's own copy of the
    chain of roots; a folder with another one is refused (15), because bare hosts believe a signed list's
    roots. `partial`: large files are elsewhere. A refresh is signed the same way. BundleRefused (15) for a
    signer who is not in the root.
    """
    chain = roots.read(bundle / layout.METADATA)
    if root is not None and chain[: len(mine := roots.read(root))] != mine:
        raise BundleRefused(
            Exit.BAD_SIGNATURE,
            f"the roots in {bundle} are not those in {root}",
            hint="begin anew if yours are newer; otherwise find out who put them there",
        )
    last = roots.check(chain)
    signer = _allowed(last, key)
    is_refresh = not (bundle / layout.MANIFEST).exists()
    written = []
    if not is_refresh:
        check(bundle, progress, partial=partial)
        written += _sign_sums(bundle, key, signer)
    return written + _sign_metadata(bundle / layout.METADATA, key, last)


def gather(bundle: Path, other: Path) -> list[str]:
    """Takes over what others signed in a copy of this folder; the files that changed.

    Only signatures that hold are taken, of signers whom the root names. BundleRefused (11) where the copy is
    of another list.
    """
    root = roots.check(roots.read(bundle / layout.METADATA))
    place = bundle / layout.METADATA
    theirs = metadata.documents(metadata.read(other / layout.METADATA))
    written = []
    for name, (document, role) in metadata.documents(metadata.read(place)).items():
        if name not in theirs or theirs[name][0].signed_bytes != document.signed_bytes:
            raise BundleRefused(Exit.BAD_METADATA, f"{other} is a copy of another bundle: {name} differs")
        found = root.get_verification_result(role, document.signed_bytes, theirs[name][0].signatures).signed
        if found.keys() - document.signatures.keys():
            document.signatures.update({each: theirs[name][0].signatures[each] for each in found})
            _write(place / name, metadata.dump(document))
            written.append(f"{layout.METADATA}/{name}")
    return written + _gather_sums(bundle, other, root)


def check(bundle: Path, progress: Progress | None = None, *, partial: bool = False) -> Manifest:
    """Refuses a folder whose lists differ or whose files are not what they say, whoever signed."""
    files = shellview.walk(bundle)
    listed = sums.parse(shellview.small(bundle, layout.SUMS, layout.MAX_SUMS_BYTES))
    found = manifest.parse(shellview.small(bundle, layout.MANIFEST, layout.MAX_MANIFEST_BYTES))
    metadata.compare(listed, found)
    sizes = manifest.digests(found)
    targets, claims = metadata.unsigned(metadata.read(bundle / layout.METADATA))
    if {path: sha256 for path, (sha256, _) in targets.items()} != listed or (
        (claims.serial, claims.built) != (found.serial, found.built)
    ):
        raise BundleRefused(Exit.BAD_METADATA, "SHA256SUMS and the metadata differ: start again")
    shellview.check_set(files, listed, listed if partial else manifest.left_out(found))
    wanted = [
        Wanted(path, bundle / path, sha256, sizes[path][1] if path in sizes else files[path])
        for path, sha256 in listed.items()
        if path in files
    ]
    hashing.check(wanted, progress)
    return found


def refresh(
    bundle: Path, root: Path, out: Path, expires_days: int, now_us: int, *, revoked: Iterable[int] = ()
) -> None:
    """Writes a folder with metadata only: the same files, a later date; unsigned.

    `bundle`: any part of it that has `metadata/`, or the refresh before. BundleRefused (15) where its own
    metadata was not signed by enough.
    """
    if out.exists():
        raise RequestError(f"{out} exists; it is not overwritten", code="file_exists", param="out")
    chain = roots.read(root)
    last = roots.check(chain)
    files = metadata.read(bundle / layout.METADATA)
    signed_under = roots.check(roots.read(bundle / layout.METADATA))
    targets, claims = metadata.unsigned(files, signed_under)
    version = metadata.version_of(files[metadata.TIMESTAMP]) + 1
    if version // metadata.VERSIONS_PER_SERIAL != claims.serial:
        raise RequestError("a bundle is refreshed 999 times at most", code="too_many_refreshes")
    expires = roots.day_of(now_us, expires_days)
    _check_ends(last, expires)
    claims = Claims(claims.serial, claims.built, tuple(sorted({*claims.revoked, *revoked})))
    for number, data in enumerate(chain, start=1):
        _write(out / layout.METADATA / roots.path(number), data)
    for name, data in metadata.make(targets, claims, version, expires).items():
        _write(out / layout.METADATA / name, data)


def signed_by(bundle: Path) -> dict[str, list[str]]:
    """Names of who signed the metadata so far, by file."""
    place = bundle / layout.METADATA
    root = roots.check(roots.read(place))
    found = {}
    for name, (document, role) in metadata.documents(metadata.read(place)).items():
        result = root.get_verification_result(role, document.signed_bytes, document.signatures)
        found[name] = sorted(roots.name_of(root, each) for each in result.signed)
    return found


def _allowed(root: Root, key: SignerKey) -> PublicSigner:
    """The signer as the root has them."""
    mine = {each.fingerprint for each in key.public.keys}
    for signer in roots.signers(root, "targets"):
        if mine and mine <= {each.fingerprint for each in signer.keys}:
            return signer
    raise BundleRefused(Exit.BAD_SIGNATURE, f"{key.name} is not among the signers of bundles")


def _sign_sums(bundle: Path, key: SignerKey, signer: PublicSigner) -> list[str]:
    listed = shellview.small(bundle, layout.SUMS, layout.MAX_SUMS_BYTES)
    written = []
    for public in signer.keys:
        path = bundle / _signature_of(public)
        is_there = path.exists() and public.verify(path.read_bytes(), listed)
        if public.kind in key.signers and not is_there:
            _write(path, key.sign(Kind(public.kind), listed))
            written.append(path.name)
    return written


def _gather_sums(bundle: Path, other: Path, root: Root) -> list[str]:
    if not (bundle / layout.SUMS).exists():
        return []  # a refresh
    listed = shellview.small(bundle, layout.SUMS, layout.MAX_SUMS_BYTES)
    written = []
    for key in (key for signer in roots.signers(root, "targets") for key in signer.keys):
        name = _signature_of(key)
        if (other / name).is_file() and not (bundle / name).exists():
            signature = shellview.small(other, name, shellview.MAX_SIGNATURE_BYTES)
            if key.verify(signature, listed):
                _write(bundle / name, signature)
                written.append(name)
    return written


def _signature_of(key: PublicKey) -> str:
    return f"{layout.SUMS}.{key.key_id}.{key.kind}.sig"


def _sign_metadata(place: Path, key: SignerKey, root: Root) -> list[str]:
    written = []
    for name, (document, role) in metadata.documents(metadata.read(place)).items():
        before = root.get_verification_result(role, document.signed_bytes, document.signatures)
        for signer in key.signers.values():
            key_id = signer.public_key.keyid
            if key_id in root.roles[role].keyids and key_id not in before.signed:
                document.sign(signer, append=True)
                _write(place / name, metadata.dump(document))
                written.append(f"{layout.METADATA}/{name}")
    return written


def _check_ends(root: Root, expires: datetime) -> None:
    if root.expires < expires:
        raise RequestError(
            f"the root ends on {root.expires:%Y-%m-%d}, before the bundle would",
            code="root_ends_first",
            hint="make the next root (appliance bundle keys rotate), or let the bundle end earlier",
        )


def _clear(bundle: Path) -> None:
    for path in shellview.walk(bundle):
        if layout.UNLISTED.fullmatch(path):
            (bundle / path).unlink()
    for name in (layout.METADATA, layout.KEYS):
        shutil.rmtree(bundle / name, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_file(path, data, mode=_MODE)
