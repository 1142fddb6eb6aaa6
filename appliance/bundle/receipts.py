"""Receipts: what was verified or done here, when, by whom, on whose word; signed by the host's own key.

A security officer asks for evidence that a check was made. The key is made at first use and never leaves
`trust/`; its public half stands in each receipt, and on paper if somebody wrote it down.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

import appliance
from appliance import durable
from appliance.bundle import canonical as canonical_form
from appliance.bundle import keys
from appliance.bundle.keys import Kind
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Moment, Serial, Sha256, Text, moment
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.trusted import Verified

FORMAT: Final = "appliance-receipt/1"
_KEY: Final = "receipts.key"
_NAME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9]+-[a-z_]+(\.[0-9]+)?\.json")
_MAX_BYTES: Final = 65_536
Count = Annotated[int, Meta(ge=0)]
What = Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")]


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed. `what`: verified, installed, upgraded, …; `who`: who ran the program."""

    format: Annotated[str, Meta(pattern=r"^appliance-receipt/1\Z")]
    what: What
    who: Text
    when: Moment
    serial: Serial
    release: Text
    key_ids: tuple[Sha256, ...]
    signers: tuple[Text, ...]
    sums_sha256: Sha256
    files: Count
    bytes: Count
    tool: Text


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. `signature`: Ed25519 over the receipt's canonical JSON, in base64; `key`: PEM."""

    receipt: Receipt
    key: Text
    signature: Text


@dataclass(frozen=True, slots=True)
class Found:
    """A receipt on this host. `is_good`: its signature holds, by this host's own key."""

    path: Path
    receipt: Receipt | None
    is_good: bool


def write(
    site: Site, verified: Verified, what: str, who: str, now: int, key: Ed25519PrivateKey | None = None
) -> Path:
    """A new receipt, durably. `now` in microseconds; `key`: this host's own where none is given."""
    secret = key or host_key(site)
    receipt = Receipt(
        format=FORMAT,
        what=what,
        who=who[:200],
        when=moment(now),
        serial=verified.manifest.serial,
        release=verified.manifest.release,
        key_ids=verified.key_ids,
        signers=verified.signers,
        sums_sha256=verified.sums_sha256,
        files=verified.num_files,
        bytes=verified.num_bytes,
        tool=f"appliance {appliance.__version__}",
    )
    signed = Signed(
        receipt,
        keys.of_private(secret).pem.decode(),
        base64.b64encode(secret.sign(canonical(receipt))).decode(),
    )
    durable.make_public_dir(site.receipts)
    path = _free(site.receipts, f"{re.sub('[:-]', '', receipt.when)}-{receipt.serial}-{what}")
    durable.write_file(path, canonical_form.encode(signed), mode=0o644)
    return path


def canonical(receipt: Receipt) -> bytes:
    """What is signed: sorted keys, UTF-8, no spaces."""
    return msgspec.json.encode(receipt, order="sorted")


def fields(receipt: Receipt) -> dict[str, Any]:
    """For JSON."""
    found: dict[str, Any] = msgspec.to_builtins(receipt)
    return found


def parse(data: bytes) -> tuple[Receipt, keys.PublicKey]:
    """A receipt whose signature holds, and by whose key. BundleRefused (11, 15)."""
    try:
        signed = msgspec.json.decode(data, type=Signed)
        signature = base64.b64decode(signed.signature, validate=True)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BundleRefused(Exit.BAD_METADATA, f"a receipt is not in its format: {error}") from error
    key = keys.parse(signed.key.encode())
    if key.kind is not Kind.ED25519 or not key.verify(signature, canonical(signed.receipt)):
        raise BundleRefused(Exit.BAD_SIGNATURE, "a receipt was changed after it was signed")
    return signed.receipt, key


def read(site: Site) -> list[Found]:
    """All receipts of this host, oldest first, each checked against this host's own key."""
    if not site.receipts.is_dir():
        return []
    mine = public_key(site)
    return [_found(path, mine) for path in sorted(site.receipts.iterdir()) if _NAME.fullmatch(path.name)]


def public_key(site: Site) -> keys.PublicKey | None:
    """The key that this host signs with; None before its first receipt."""
    return keys.of_private(host_key(site)) if (site.trust / _KEY).exists() else None


def host_key(site: Site) -> Ed25519PrivateKey:
    """This host's own key, made at first use. Only root reads it."""
    path = site.trust / _KEY
    if not path.exists():
        durable.make_public_dir(site.trust)
        durable.write_file(path, Ed25519PrivateKey.generate().private_bytes_raw())
    data = path.read_bytes()
    try:
        return Ed25519PrivateKey.from_private_bytes(data)
    except ValueError as error:
        raise BundleRefused(
            Exit.PREFLIGHT,
            "the key of this host's receipts is damaged",
            hint=f"restore {path} from the host's backup, or move it away: a new one is made",
        ) from error


def _found(path: Path, mine: keys.PublicKey | None) -> Found:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return Found(path, None, is_good=False)
        receipt, key = parse(path.read_bytes())
    except (OSError, BundleRefused):
        return Found(path, None, is_good=False)
    return Found(path, receipt, is_good=mine is not None and key == mine)


def _free(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}.{number}.json"
    return path
