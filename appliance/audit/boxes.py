"""Box files: what a home holds beside its database and its shares, sealed to the recovery key.

The envelope's line (`envelope.py`) names format, origin, size of the tree and moment. The body is JSON:
files of the home by their names, and which copy of the database and of the shares were made with them. Names
are a closed list (`FILES`), which says what must not outlive a home: see audit/DESIGN.md. Anybody can seal to
a public key: that a box is this log's shows in its verifier key, which others hold too.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from appliance import durable
from appliance.audit import envelope
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity, Recipient
from appliance.config import CONFIG_NAME, Home
from appliance.errors import SetupError, VerificationError

FORMAT: Final = 1
HEAD: Final = "head"
REQUIRED: Final = frozenset({CONFIG_NAME, HEAD, "keys/log.ed25519", "keys/log.vkey"})
# With the key of second factors: what was reset opens in an old copy, and counts nowhere.
# Not the shares' key and no act's key: what is erased or closed would open again. No month's index key: it
# ends with its month. No identity: whoever runs the box reads nothing.
FILES: Final = REQUIRED | {"keys/log.p256", "keys/log-p256.vkey", "keys/holds.key", "keys/people.key"}
MAX_BYTES: Final = 32 << 20
_NAME: Final = "box file"

_Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Name = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
_Count = Annotated[int, Meta(ge=0, lt=1 << 53)]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that was made with the box and lies beside it."""

    name: _Name
    sha256: _Digest


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    box: int
    origin: Annotated[str, Meta(max_length=100)]
    tree_size: _Count
    made_us: _Count
    wraps: Annotated[dict[str, str], Meta(max_length=64)]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: Annotated[dict[str, str], Meta(max_length=16)]
    database: Part
    shares: Part


class _Restored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    backup_sha256: _Digest
    tree_size: _Count


@dataclass(frozen=True, slots=True)
class Box:
    """What a box file holds. `tree_size` is what its head remembers: that of its copy of the database."""

    origin: str
    tree_size: int
    made_us: int
    files: Mapping[str, bytes] = field(repr=False)
    database: Part
    shares: Part


def seal(box: Box, recipients: Sequence[Recipient]) -> bytes:
    """The file. SetupError where it would be larger than what `open_box` reads."""
    made = (box.origin, box.tree_size, box.made_us)
    data = envelope.seal(encode(box), recipients, _info(*made), lambda wraps: _Header(FORMAT, *made, wraps))
    if len(data) > MAX_BYTES:
        raise SetupError(f"a box file has at most {MAX_BYTES >> 20} MiB", code="backup_failed")
    return data


def open_box(data: bytes, identity: Identity) -> Box:
    """The box in a file. VerificationError where it is damaged, none, or not sealed to this identity."""
    header = envelope.head(data, _Header, _NAME)
    if header.box != FORMAT or len(data) > MAX_BYTES:
        raise VerificationError("this is no box file that this release reads")
    info = _info(header.origin, header.tree_size, header.made_us)
    plain = envelope.unseal(data, header.wraps, identity, info, _NAME)
    return decode(plain, origin=header.origin, tree_size=header.tree_size, made_us=header.made_us)


def encode(box: Box) -> bytes:
    """The body, in one form."""
    files = {name: base64.b64encode(box.files[name]).decode() for name in sorted(box.files)}
    return msgspec.json.encode(_Body(files, box.database, box.shares))


def decode(plain: bytes, *, origin: str, tree_size: int, made_us: int) -> Box:
    """A box from its body. VerificationError where names are missing, or are none of a box."""
    try:
        body = msgspec.json.decode(plain, type=_Body)
        files = {name: base64.b64decode(each, validate=True) for name, each in body.files.items()}
    except (msgspec.MsgspecError, ValueError) as error:
        raise VerificationError("the box file holds something else") from error
    if not REQUIRED <= files.keys() <= FILES:
        raise VerificationError("the box file holds other files than a box does")
    return Box(origin, tree_size, made_us, files, body.database, body.shares)


def path_of(home: Home, made_us: int) -> Path:
    """Where a box file of this moment lies."""
    return envelope.path_of(home, "box", made_us)


def every(home: Home) -> list[Path]:
    """The box files in this home, oldest first."""
    return sorted(home.backups.glob("box-*.backup"))


def remember(home: Home, *, backup_sha256: str, tree_size: int) -> None:
    """That this home came out of a box: on the record as soon as the log opens."""
    durable.write_file(home.restored, msgspec.json.encode(_Restored(backup_sha256, tree_size)))


def restored(home: Home) -> list[Entry]:
    """The entry that is due; none where nothing was restored since the log opened last."""
    try:
        found = msgspec.json.decode(home.restored.read_bytes(), type=_Restored)
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        raise SetupError(
            f"{home.restored} can not be read",
            code="not_recorded",
            hint="it says which box this home came out of; restore the box again, into an empty home",
        ) from error
    public: dict[str, str | int] = {"backup_sha256": found.backup_sha256, "tree_size": found.tree_size}
    return [Entry(kind=Kind.BOX_RESTORED, public=public)]


def recorded(home: Home) -> None:
    """The entry is durable. A crash before this is durable makes a second one, which says the same."""
    if home.restored.exists():
        home.restored.unlink()
        durable.fsync_dir(home.root)


def _info(origin: str, tree_size: int, made_us: int) -> bytes:
    """HPKE's info: the key is good for this very file."""
    return f"audit/box/v1\n{origin}\n{tree_size}\n{made_us}".encode()
