"""What came with a model's files: a digest to hold them against, and a signer's signature. Pure.

Signed is the text that `sha256sum` prints for the files, in their order: `sha256sum FILE > FILE.sums`, then
`openssl pkeyutl -sign -rawin -inkey KEY -in FILE.sums -out FILE.sig`. The signer is somebody whose public
file the operator has: as `appliance bundle keys create` writes it, or one public key in PEM.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from appliance.bundle import keys
from appliance.bundle.keys import PublicKey
from appliance.bundle.refusals import BundleRefused
from appliance.errors import RequestError
from appliance.importing.refusals import FileRefused
from appliance.models.cards import File

MAX_SIGNATURE_BYTES: Final = 4096
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def sums(files: Sequence[File]) -> bytes:
    """What `sha256sum` prints for these files."""
    return "".join(f"{each.sha256}  {each.name}\n" for each in files).encode()


def check_digest(expected: str, sha256: str, files: Sequence[File]) -> None:
    """FileRefused where the files are not those of the digest: the one file's, or that of the list of all."""
    if _SHA256.fullmatch(expected.lower()) is None:
        raise RequestError("a SHA-256 has 64 hexadecimal digits", code="invalid_digest", param="sha256")
    if expected.lower() not in {sha256, *(each.sha256 for each in files if len(files) == 1)}:
        raise FileRefused(
            "model_altered",
            "the sha256 of what was given is another one",
            hint="it was copied wrongly, or is another file: fetch it again from where the digest came from",
            sha256=sha256,
        )


def check_signature(signature: bytes, public: bytes, name: str, files: Sequence[File]) -> str:
    """Who signed: a name and the key's fingerprint. FileRefused where this signer did not sign these files.

    `name` stands for a signer whose file is a bare public key.
    """
    message = sums(files)
    for signer, key in _signers(public, name):
        for form in _forms(signature):
            if key.verify(form, message):
                return f"{signer} {key.fingerprint}"
    raise FileRefused(
        "bad_signature",
        "the signature is not this signer's under these files",
        hint="it stands under what sha256sum prints for them, in their order, under the names that they have",
    )


def _signers(public: bytes, name: str) -> list[tuple[str, PublicKey]]:
    try:
        if public.startswith(b"# signer:"):
            found = keys.load_public(public)
            return [(found.name, each) for each in found.keys]
        return [(name, keys.parse(public))]
    except BundleRefused as error:
        raise RequestError(
            f"the signer's file is none: {error.message}", code="bad_signer", param="signer"
        ) from error


def _forms(signature: bytes) -> list[bytes]:
    """As it stands, and as base64 of it."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        return []
    try:
        return [signature, base64.b64decode(b"".join(signature.split()), validate=True)]
    except binascii.Error:
        return [signature]
