"""Who may sign: the chain of root metadata, from the ceremony on (The Update Framework, §5.3).

Each root names the signers of roots and of bundles and how many of them it takes. The next one is signed by
enough of both, the old signers and the new, so that a host that believes one believes all that follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Role, Root
from tuf.api.serialization.json import JSONSerializer

from appliance.bundle import layout
from appliance.bundle.keys import SIGNER_FIELD, Kind, PublicKey, PublicSigner, SignerKey, from_metadata
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError

THRESHOLD: Final = 2
MIN_SIGNERS: Final = 3  # so that one can be lost
MAX_DAYS: Final = 3660
_FILE: Final = re.compile(r"([1-9][0-9]{0,5})\.root\.json")
_BUNDLE_ROLES: Final = ("targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class Missing:
    """Whose signatures a root still lacks: any `num` of `names`, of the new signers or the old."""

    what: str
    num: int
    names: tuple[str, ...]


def path(number: int) -> str:
    """A root's file name."""
    return f"{number}.root.json"


def make(
    root_signers: Sequence[PublicSigner],
    targets_signers: Sequence[PublicSigner],
    *,
    now_us: int,
    days: int,
    version: int = 1,
    fips: bool = False,
) -> Metadata[Root]:
    """A root that nobody has signed yet. `fips`: its roles hold the P-384 keys. RequestError for bad sets."""
    if not 1 <= days <= MAX_DAYS:
        raise RequestError(f"a root is good for 1 to {MAX_DAYS} days", code="invalid_days", param="days")
    _check_sets(root_signers, targets_signers)
    root = Root(version=version, expires=day_of(now_us, days), consistent_snapshot=True)
    for signer in (*root_signers, *targets_signers):
        for key in signer.keys:
            root.keys[key.fingerprint] = key.for_metadata(signer.name)
    root.roles["root"] = Role([_acting(each, fips=fips).fingerprint for each in root_signers], THRESHOLD)
    for role in _BUNDLE_ROLES:
        ids = [_acting(each, fips=fips).fingerprint for each in targets_signers]
        root.roles[role] = Role(ids, THRESHOLD)
    return Metadata(root)


def day_of(now_us: int, days: int) -> datetime:
    """So many days later, to the second, UTC."""
    return datetime.fromtimestamp(now_us // 1_000_000, tz=UTC) + timedelta(days=days)


def sign(data: bytes, key: SignerKey, previous: bytes | None) -> bytes:
    """The root with one more signature. BundleRefused (15) for who signs neither old nor new roots."""
    document = parse(data)
    before = None if previous is None else parse(previous)
    allowed = set(document.signed.roles["root"].keyids)
    if before is not None:
        allowed |= set(before.signed.roles["root"].keyids)
    signers = [each for each in key.signers.values() if each.public_key.keyid in allowed]
    if not signers:
        raise BundleRefused(Exit.BAD_SIGNATURE, f"{key.name} is not among the signers of this root")
    for signer in signers:
        document.sign(signer, append=True)
    return dump(document)


def missing(data: bytes, previous: bytes | None) -> list[Missing]:
    """What signatures a root lacks; nothing where it is in force."""
    document = parse(data)
    judges = [("this root's signers", document.signed)]
    if previous is not None:
        judges.append(("the previous root's signers", parse(previous).signed))
    found = []
    for what, judge in judges:
        result = judge.get_verification_result("root", document.signed_bytes, document.signatures)
        if not result.verified:
            names = tuple(
                name_of(judge, each) for each in judge.roles["root"].keyids if each in result.unsigned
            )
            found.append(Missing(what, result.threshold - len(result.signed), names))
    return found


def read(folder: Path) -> list[bytes]:
    """The chain in a folder, 1 first, each verified by the one before. BundleRefused says what is wrong."""
    names = (
        {each.name for each in folder.iterdir() if _FILE.fullmatch(each.name)} if folder.is_dir() else set()
    )
    chain: list[bytes] = []
    while (name := path(len(chain) + 1)) in names:
        if (folder / name).stat().st_size > layout.MAX_METADATA_BYTES:
            raise BundleRefused(Exit.BAD_METADATA, f"{name} is too large")
        chain.append((folder / name).read_bytes())
    if len(chain) != len(names) or not chain:
        raise BundleRefused(Exit.MISSING, "the chain of roots has no beginning, or a gap")
    check(chain)
    return chain


def check(chain: Sequence[bytes]) -> Root:
    """The last root of a chain whose every link holds. BundleRefused (11, 15) where one does not."""
    last: Root | None = None
    for number, data in enumerate(chain, start=1):
        document = parse(data)
        if document.signed.version != number:
            raise BundleRefused(Exit.BAD_METADATA, f"{path(number)} holds root {document.signed.version}")
        if missing(data, chain[number - 2] if number > 1 else None):
            raise BundleRefused(Exit.BAD_SIGNATURE, f"{path(number)} lacks signatures of its signers")
        last = document.signed
    if last is None:
        raise BundleRefused(Exit.MISSING, "there is no root")
    return last


def parse(data: bytes) -> Metadata[Root]:
    """A root's document, nothing verified. BundleRefused (11) where it is none."""
    try:
        document = document_of(data)
    except (RepositoryError, RecursionError) as error:
        raise BundleRefused(Exit.BAD_METADATA, f"a root is not in its format: {error}") from error
    if not isinstance(document.signed, Root):
        raise BundleRefused(Exit.BAD_METADATA, "a root's file holds other metadata")
    return document


def document_of(data: bytes) -> Metadata[Any]:
    """A document of any kind that has a canonical form, over which signatures are (a fraction has none).

    RepositoryError where it has none, or is malformed otherwise.
    """
    document: Metadata[Any] = Metadata[Any].from_bytes(data)
    if not document.signed_bytes:
        raise RepositoryError("nothing is signed")
    return document


def dump(document: Metadata[Root]) -> bytes:
    """A root's bytes."""
    return document.to_bytes(JSONSerializer()) + b"\n"


def name_of(root: Root, key_id: str) -> str:
    """Who holds a key, as the ceremony wrote it down."""
    key = root.keys.get(key_id)
    return str(key.unrecognized_fields.get(SIGNER_FIELD, key_id[:16])) if key is not None else key_id[:16]


def signers(root: Root, role: str) -> list[PublicSigner]:
    """A role's signers with all their keys, also those that no role names (P-384 beside Ed25519)."""
    names = [name_of(root, each) for each in root.roles[role].keyids]
    by_name: dict[str, list[PublicKey]] = {name: [] for name in names}
    for key_id, key in root.keys.items():
        name = name_of(root, key_id)
        if name in by_name:
            by_name[name].append(from_metadata(key))
    return [PublicSigner(name, tuple(sorted(by_name[name], key=lambda each: each.kind))) for name in names]


def _acting(signer: PublicSigner, *, fips: bool) -> PublicKey:
    """The key that counts for its holder in the metadata: one each, or somebody would count twice."""
    order = (Kind.P384, Kind.ED25519) if fips else (Kind.ED25519, Kind.P384)
    found = next((key for kind in order if (key := signer.key(kind)) is not None), None)
    if found is None:
        raise RequestError(f"{signer.name} has no key", code="invalid_signers")
    return found


def _check_sets(root_signers: Sequence[PublicSigner], targets_signers: Sequence[PublicSigner]) -> None:
    for what, each in (("root", root_signers), ("targets", targets_signers)):
        if len(each) < MIN_SIGNERS:
            raise RequestError(
                f"a ceremony takes {MIN_SIGNERS} {what} signers or more", code="too_few_signers", param=what
            )
    together = [*root_signers, *targets_signers]
    if _twice(each.name for each in together) or _twice(key.der for each in together for key in each.keys):
        raise RequestError(
            "each signer has a name and keys of their own; nobody signs both roots and bundles",
            code="invalid_signers",
        )


def _twice(values: Iterable[object]) -> bool:
    listed = list(values)
    return len(set(listed)) != len(listed)
