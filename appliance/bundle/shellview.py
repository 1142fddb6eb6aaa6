"""The shell's view of a bundle, once more in Python: what lies in the folder, and who signed its list."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from appliance.bundle import folder, keys, layout
from appliance.bundle.keys import Kind
from appliance.bundle.refusals import BundleRefused, Exit, some

THRESHOLD: Final = 2
# A FIFO that somebody put there must not make us wait for its writer.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SIGNATURE: Final = re.compile(r"SHA256SUMS\.([0-9a-f]{16})\.(ed25519|p384)\.sig")
MAX_SIGNATURE_BYTES: Final = 256


def walk(bundle: Path) -> dict[str, int]:
    """Bytes of every file, by path. BundleRefused (11) for links, devices and names that no bundle has."""
    if not bundle.is_dir():
        raise BundleRefused(Exit.MISSING, f"{bundle} is no folder")
    return {path: (bundle / path).lstat().st_size for path in folder.paths(bundle)}


def small(bundle: Path, path: str, limit: int) -> bytes:
    """One small file's bytes. BundleRefused: not there (14), too large (11)."""
    try:
        with os.fdopen(os.open(bundle / path, _FLAGS), "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BundleRefused(Exit.MISSING, f"{path} can not be read: {error.strerror}") from error
    if len(data) > limit:
        raise BundleRefused(Exit.BAD_METADATA, f"{path} has over {limit} bytes")
    return data


def signed_by(bundle: Path, files: Collection[str], sums: bytes) -> dict[Kind, set[str]]:
    """Fingerprints of the keys whose signatures of the list hold, by kind.

    BundleRefused (15) where one does not, or where fewer than two of a kind are there: the next person with a
    shell would be refused.
    """
    found: dict[Kind, set[str]] = {each: set() for each in Kind}
    for name in files:
        if (match := _SIGNATURE.fullmatch(name)) is None:
            continue
        path = f"{layout.KEYS}/{match[1]}.{match[2]}.pem"
        if path not in files:
            raise BundleRefused(Exit.BAD_SIGNATURE, f"{name} is of a key that is not in the bundle")
        key = keys.parse(small(bundle, path, keys.MAX_KEY_FILE_BYTES))
        signature = small(bundle, name, MAX_SIGNATURE_BYTES)
        if (key.key_id, key.kind) != (match[1], match[2]) or not key.verify(signature, sums):
            raise BundleRefused(Exit.BAD_SIGNATURE, f"{name} is no signature of SHA256SUMS by this key")
        found[key.kind].add(key.fingerprint)
    if max(len(each) for each in found.values()) < THRESHOLD:
        raise BundleRefused(Exit.BAD_SIGNATURE, f"fewer than {THRESHOLD} signers signed SHA256SUMS")
    return found


def on_paper(signers: Mapping[Kind, set[str]], fingerprints: Iterable[str]) -> None:
    """Refuses (15) a list that fewer than two of the keys on paper signed, all of one kind."""
    wanted = {keys.fingerprint(each) for each in fingerprints}
    if max(len(wanted & each) for each in signers.values()) < THRESHOLD:
        raise BundleRefused(
            Exit.BAD_SIGNATURE,
            f"fewer than {THRESHOLD} of the keys on paper signed this bundle",
            hint="fingerprints come from paper, two or more of one kind: Ed25519, or P-384 in FIPS mode",
        )


def check_set(files: Mapping[str, int], sums: Mapping[str, str], held: Collection[str]) -> None:
    """Refuses files that nobody signed (16), and missing files (14) but those that the host holds."""
    extra = sorted(path for path in files if path not in sums and not layout.UNLISTED.fullmatch(path))
    if extra:
        raise BundleRefused(Exit.WRONG_DIGEST, f"nobody signed {some(extra)}")
    missing = sorted(path for path in sums if path not in files and path not in held)
    if missing:
        raise BundleRefused(Exit.MISSING, f"missing: {some(missing)}")
