"""How a home's secret files lie on the disk when it is sealed: their envelope, and the slots of its key. Pure
but for randomness.

    keys/home.slots    who opens the home: its key under each passphrase or credential, a slot each
    every secret file  one line of JSON that says what it is, 12 bytes of nonce, AES-256-GCM with that line
                       as additional data, under HKDF-SHA256 of the home's key and the file's name

So a passphrase changes without one file being written anew, no file can take another's place, and a cut or
changed one does not open. A passphrase goes through a slow function (`stretching`): whoever has a copy of the
disk can guess for as long as they like. A credential is 32 random bytes, which nobody guesses.

The file of slots is authenticated under the home's key as a whole: whoever can write to the disk can not say
that the home is about to be unsealed, and have the next start write its secrets in the clear.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta

from appliance import stretching
from appliance.errors import RequestError, SetupError, VerificationError

FORMAT: Final = 1
MAX_SLOTS: Final = 16
MAX_BYTES: Final = 1 << 16  # of the file of slots
HKDF_SHA256: Final = "hkdf-sha256"
_MARK: Final = b'{"sealed":'
_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_ID_BYTES: Final = 8
_PREFIX: Final = "apphome1-"
_CREDENTIAL: Final = re.compile(f"{_PREFIX}[0-9a-f]{{{2 * _KEY_BYTES}}}")

Way = Literal["passphrase", "credential"]
# What a crash may have left half done: files on their way into the envelope, or out of it.
State = Literal["sealed", "sealing", "opening"]

_Hex = Annotated[str, Meta(pattern="^[0-9a-f]*$", max_length=64)]
_Text = Annotated[str, Meta(max_length=1000)]
Action = Literal["sealed", "added", "removed", "rotated", "unsealed"]  # what was done about the slots
SlotName = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]{0,39}$")]


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The home's key under one secret. Bytes as base64."""

    name: SlotName
    way: Way
    kdf: _Text
    salt: _Text
    sealed: _Text  # nonce || ciphertext || tag


class Slots(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `earlier`: the key before, under this one, while files are sealed anew."""

    slots: int
    key: _Hex  # id of the home's key
    state: State
    ways: Annotated[tuple[Slot, ...], Meta(min_length=1, max_length=MAX_SLOTS)]
    earlier: _Text = ""
    mac: _Hex = ""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sealed: int
    name: Annotated[str, Meta(max_length=200)]
    key: _Hex


@dataclass(frozen=True, slots=True)
class HomeKey:
    """What every secret file of a home is sealed under."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Which key a file is under; says nothing of the key."""
        return hashlib.sha256(b"appliance/home-key/1\n" + self.secret).hexdigest()[: 2 * _ID_BYTES]


def new_key() -> HomeKey:
    """A home's key."""
    return HomeKey(secrets.token_bytes(_KEY_BYTES))


def new_credential() -> str:
    """A credential for a service that starts without a person: a line of text, 256 bits."""
    return _PREFIX + secrets.token_hex(_KEY_BYTES)


def way_of(secret: str) -> Way:
    """What somebody handed over: a credential is recognised by its form."""
    return "credential" if secret.startswith(_PREFIX) else "passphrase"


def new_slot(key: HomeKey, name: str, secret: str, *, fips: bool) -> Slot:
    """The home's key under this secret. RequestError for what begins as a credential does, and is none."""
    way = way_of(secret)
    if way == "credential" and not _CREDENTIAL.fullmatch(secret):
        raise RequestError(
            "this begins as a credential does, and is none",
            code="invalid_credential",
            hint="appliance secrets credential makes one",
        )
    kdf = stretching.function_of(fips=fips) if way == "passphrase" else HKDF_SHA256
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    slot = Slot(name, way, kdf, _text(salt), "")
    wrapped = AESGCM(_derived(secret, slot)).encrypt(nonce, key.secret, _bound(slot, key.id))
    return msgspec.structs.replace(slot, sealed=_text(nonce + wrapped))


def open_slots(found: Slots, secret: str) -> HomeKey | None:
    """The home's key; None where no slot opens for this secret. Every slot of its kind is tried, slowly.

    VerificationError where a slot opens and the file is not what the key's holder wrote.
    """
    way = way_of(secret)
    opened = [_opened(each, found.key, secret) for each in found.ways if each.way == way]
    key = next((each for each in opened if each is not None), None)
    if key is not None and not hmac.compare_digest(found.mac, _mac(found, key)):
        raise VerificationError(
            "keys/home.slots was changed by somebody who has not this home's key",
            code="slots_changed",
            hint="restore it from a copy of this home",
        )
    return key


def made(
    key: HomeKey, ways: Sequence[Slot], state: State = "sealed", *, earlier: HomeKey | None = None
) -> Slots:
    """The file's content, authenticated. SetupError where nobody, or more than 16, could open it."""
    names = {each.name for each in ways}
    if not 1 <= len(ways) <= MAX_SLOTS or len(names) != len(ways):
        raise SetupError(f"a sealed home has 1 to {MAX_SLOTS} slots of different names", code="slots")
    wrapped = ""
    if earlier is not None:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        wrapped = _text(nonce + AESGCM(_subkey(key, "earlier")).encrypt(nonce, earlier.secret, b"earlier"))
    bare = Slots(FORMAT, key.id, state, tuple(ways), wrapped)
    return msgspec.structs.replace(bare, mac=_mac(bare, key))


def earlier_of(found: Slots, key: HomeKey) -> HomeKey | None:
    """The key before this one, where files may still be under it."""
    if not found.earlier:
        return None
    data = _bytes(found.earlier)
    try:
        opened = AESGCM(_subkey(key, "earlier")).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], b"earlier")
    except (InvalidTag, ValueError) as error:
        raise damaged() from error
    return HomeKey(opened)


def encode(found: Slots) -> bytes:
    """The file."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def parse(data: bytes) -> Slots:
    """The file of slots. VerificationError where it is damaged, or of a later release."""
    try:
        found = msgspec.json.decode(data[:MAX_BYTES], type=Slots)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged() from error
    if found.slots != FORMAT:
        raise damaged()
    return found


def is_sealed(data: bytes) -> bool:
    """Whether these are the bytes of a sealed file."""
    return data.startswith(_MARK)


def seal(key: HomeKey, name: str, secret: bytes) -> bytes:
    """A secret file's envelope. `name` is its path in the home."""
    line = msgspec.json.encode(_Line(FORMAT, name, key.id)) + b"\n"
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return line + nonce + AESGCM(_subkey(key, f"file\n{name}")).encrypt(nonce, secret, line)


def key_id_of(data: bytes, name: str) -> str:
    """The key that a sealed file asks for. VerificationError where it is cut, or another file's."""
    line, separator, _ = data.partition(b"\n")
    try:
        found = msgspec.json.decode(line[:1000], type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unopened(name) from error
    if not separator or found.sealed != FORMAT or found.name != name:
        raise unopened(name)
    return found.key


def open_(keys: Mapping[str, bytes], name: str, data: bytes) -> bytes:
    """The secret in a sealed file. VerificationError where it is another's, cut or changed."""
    key = keys.get(key_id_of(data, name))
    line, separator, rest = data.partition(b"\n")
    if key is None:
        raise unopened(name)
    try:
        subkey = _subkey(HomeKey(key), f"file\n{name}")
        return AESGCM(subkey).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], line + separator)
    except (InvalidTag, ValueError) as error:
        raise unopened(name) from error


def unopened(name: str) -> VerificationError:
    """A sealed file that is not what this home put there."""
    return VerificationError(
        f"{name} does not open with this home's key: it is damaged, or another file's",
        code="secret_damaged",
        hint="restore it from a copy of this home, or the home from its box file",
    )


def damaged() -> VerificationError:
    """A file of slots that can not be read."""
    return VerificationError(
        "keys/home.slots can not be read by this release",
        code="slots_damaged",
        hint="restore it from a copy of this home, or the home from its box file",
    )


def without(found: Slots, name: str) -> tuple[Slot, ...]:
    """The ways that are left. RequestError where there is none of this name, or none would be left."""
    left = tuple(each for each in found.ways if each.name != name)
    if len(left) == len(found.ways):
        raise RequestError("this home has no slot of that name", code="slot_not_found")
    if not left:
        raise RequestError(
            "nothing else opens this home: its last slot stays",
            code="last_slot",
            hint="appliance secrets add another first, or appliance secrets unseal",
        )
    return left


def free_name(ways: Sequence[Slot], way: Way) -> str:
    """A name for another slot of this kind."""
    taken = {each.name for each in ways}
    return next(name for number in range(1, MAX_SLOTS + 2) if (name := f"{way}-{number}") not in taken)


def _opened(slot: Slot, key_id: str, secret: str) -> HomeKey | None:
    data = _bytes(slot.sealed)
    derived = _derived(secret, slot)
    try:
        key = HomeKey(AESGCM(derived).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bound(slot, key_id)))
    except (InvalidTag, ValueError):
        return None
    return key if key.id == key_id else None


def _derived(secret: str, slot: Slot) -> bytes:
    salt = _bytes(slot.salt)
    if slot.way == "passphrase":
        if slot.kdf not in stretching.KNOWN:
            raise damaged()
        return stretching.derive(secret, slot.kdf, salt)
    if slot.kdf != HKDF_SHA256:
        raise damaged()
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt, b"appliance/credential/1").derive(secret.encode())


def _bound(slot: Slot, key_id: str) -> bytes:
    return f"appliance/slot/1\n{key_id}\n{slot.name}\n{slot.way}\n{slot.kdf}".encode()


def _mac(found: Slots, key: HomeKey) -> str:
    data = msgspec.json.encode(msgspec.structs.replace(found, mac=""))
    return hmac.digest(_subkey(key, "slots"), data, "sha256").hex()


def _subkey(key: HomeKey, purpose: str) -> bytes:
    return HKDF(hashes.SHA256(), _KEY_BYTES, None, f"appliance/home/1\n{purpose}".encode()).derive(key.secret)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise damaged() from error
