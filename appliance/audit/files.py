"""The log's memory outside the database: its keys, its head, its latch, and the files' identity."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from appliance import durable, keyring
from appliance.audit import shares
from appliance.audit.checkpoint import Signer, Verifier, open_checkpoint
from appliance.config import CryptoProfile, Home
from appliance.errors import SetupError, VerificationError

KEY: Final = "log.ed25519"
SECOND_KEY: Final = "log.p256"
VERIFIER: Final = "log.vkey"
SECOND_VERIFIER: Final = "log-p256.vkey"
LATCH_BYTES: Final = 512
MAX_REASON_CHARACTERS: Final = 200
_OTHERS, _OWNER = 0o077, 0o600  # permission bits


@dataclass(frozen=True, slots=True)
class LogKeys:
    """What the appliance itself holds: it signs checkpoints; it reads nothing."""

    signer: Signer
    second: Signer | None = None  # ECDSA P-256, in profile fips

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """The public halves: every checkpoint of this log is signed by each."""
        return (self.signer.verifier, *([self.second.verifier] if self.second else []))

    def sign(self, text: str) -> str:
        """The signed note."""
        return self.signer.sign(text) + (self.second.line(text) if self.second else "")


def create_keys(home: Home, profile: CryptoProfile = "standard") -> None:
    """Make the log's own keys, once; existing ones are never replaced."""
    durable.make_private_dir(home.keys)
    for name, secret in fresh_keys(profile).items():
        if not (home.keys / name).exists():
            keyring.write(home, home.keys / name, secret)
    shares.create(home)


def fresh_keys(profile: CryptoProfile) -> dict[str, bytes]:
    """New signing keys of a log, by the names of their files."""
    found = {KEY: Ed25519PrivateKey.generate().private_bytes_raw()}
    if profile == "fips":
        found[SECOND_KEY] = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        )
    return found


def has_second_key(home: Home) -> bool:
    """Whether this log's checkpoints carry a second signature."""
    return (home.keys / SECOND_KEY).exists() or (home.keys / SECOND_VERIFIER).exists()


def load_keys(home: Home, origin: str) -> LogKeys:
    """The log's keys. SetupError where they are missing or damaged."""
    try:
        signing = keyring.read(home, home.keys / KEY)
        second = keyring.read(home, home.keys / SECOND_KEY) if has_second_key(home) else None
        return keys_from(origin, signing, second)
    except (OSError, ValueError) as error:
        raise SetupError(
            "the log's keys can not be read", code="log_keys", hint="run: appliance init"
        ) from error


def keys_from(origin: str, signing: bytes, second: bytes | None) -> LogKeys:
    """The log's keys from their files' bytes. ValueError where they are none."""
    signer = Signer(origin, Ed25519PrivateKey.from_private_bytes(signing))
    return LogKeys(signer, None if second is None else _second_signer(second, origin))


def write_verifiers(home: Home, keys: LogKeys) -> None:
    """The public halves, for everybody who checks: `keys/log.vkey`, `keys/log-p256.vkey`."""
    for name, verifier in zip((VERIFIER, SECOND_VERIFIER), keys.verifiers, strict=False):
        durable.write_file(home.keys / name, verifier.text().encode() + b"\n", mode=0o644)


def read_verifier(home: Home) -> Verifier:
    """The log's public key, as everybody reads it."""
    return read_verifiers(home.keys)[0]


def read_verifiers(folder: Path) -> tuple[Verifier, ...]:
    """Every public key of the log that this folder belongs to: `keys/`, or one in the archive."""
    found = []
    for name in (VERIFIER, SECOND_VERIFIER):
        try:
            found.append(Verifier.parse((folder / name).read_text(encoding="ascii").rstrip("\n")))
        except FileNotFoundError as error:
            if name == VERIFIER:
                raise SetupError(f"{name} is missing", code="log_keys") from error
        except (OSError, UnicodeDecodeError) as error:
            raise SetupError(f"{name} can not be read", code="log_keys") from error
    return tuple(found)


def _second_signer(data: bytes, origin: str) -> Signer:
    key = load_der_private_key(data, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("another kind of key is wanted here")  # noqa: TRY004 - as a damaged one
    return Signer(origin, key)


class Latch:
    """Whether the log is closed until an operator has looked. Survives restarts and full disks.

    The file is written whole when it is opened, and closed by overwriting it in place: that needs no
    new block, so it works where nothing else can be written any more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        """Make the file, open, at the log's beginning; one that is there is kept."""
        if not self._path.exists():
            self.open()

    def open(self) -> None:
        """Open it, and make it whole again where it was missing or damaged."""
        durable.write_file(self._path, _latch_bytes(""))

    def reason(self) -> str:
        """Why the log is latched; empty where it is not. A missing or damaged latch is latched."""
        try:
            state = json.loads(self._path.read_bytes().decode().strip())
            reason = state["latched"]
        except (OSError, ValueError, KeyError, TypeError):
            return "the latch file is missing or damaged"
        return _plain(str(reason))

    def set(self, reason: str) -> None:
        """Close it. OSError where even that can not be written."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, _latch_bytes(reason), 0)
            os.fsync(fd)
        finally:
            os.close(fd)


def require_open(home: Home) -> None:
    """SetupError where the log is latched: then nobody but `recover` writes to the record."""
    if reason := Latch(home.latch).reason():
        raise SetupError(
            f"the log is closed: {reason}",
            code="latched",
            hint="remove the cause, then run: appliance audit recover, with the release that wrote the log",
        )


def read_head(home: Home) -> str:
    """The head file's note. VerificationError where it is no text, FileNotFoundError where it is gone."""
    try:
        return home.head.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise VerificationError("the head file is damaged") from error


def head_size(home: Home, verifier: Verifier) -> int:
    """How many entries the head file remembers; 0 also where `init` has not written one yet."""
    try:
        return open_checkpoint(read_head(home), verifier).size
    except FileNotFoundError:
        return 0


class FileGuard:
    """Notices that an open file is no longer the one at its path: removed, renamed or replaced.

    SQLite itself happily commits into an unlinked file; a record acknowledged there is lost. Links
    count as replaced: SQLite looks for the WAL beside what a link points to, at the next start. So
    does a mode that lets others in, or that would keep the next start out.
    """

    def __init__(self) -> None:
        self._held: dict[Path, tuple[int, os.stat_result]] = {}
        self._looking = threading.Lock()  # others look while the writer replaces its own file

    @contextlib.contextmanager
    def replacing(self, path: Path) -> Iterator[None]:
        """Our own exchange of a file: nobody looks in between, and the new one is held."""
        with self._looking:
            yield
            self.hold(path)

    def hold(self, path: Path, *, needed: bool = True) -> None:
        """Watch the file at this path from now on. VerificationError for a symbolic link."""
        try:
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if needed:
                raise
            return
        before, self._held[path] = self._held.get(path), (fd, os.fstat(fd))
        if before is not None:
            os.close(before[0])
        if path.is_symlink():
            raise VerificationError(f"{path.name} is a symbolic link")

    def check(self) -> None:
        """VerificationError where a file is not what it was."""
        with self._looking:
            self._check()

    def _check(self) -> None:
        for path, (_, held) in self._held.items():
            try:
                found = path.lstat()
            except OSError as error:
                raise VerificationError(f"{path.name} is gone") from error
            # Our descriptor keeps the inode: its number can not come back as another file's.
            if (held.st_dev, held.st_ino) != (found.st_dev, found.st_ino):
                raise VerificationError(f"{path.name} was replaced")
            opened, closed = found.st_mode & ~held.st_mode, held.st_mode & ~found.st_mode
            if opened & _OTHERS or closed & _OWNER or held.st_uid != found.st_uid:
                raise VerificationError(f"{path.name} has another owner or other permissions")

    def close(self) -> None:
        """Let go of the files."""
        held, self._held = self._held, {}
        for fd, _ in held.values():
            os.close(fd)


def take_lock(home: Home, *, finishing: bool = False) -> int:
    """Become the one writer of this home. SetupError where another process is.

    A ceremony that was interrupted keeps everybody out but whoever finishes it.
    """
    if home.ceremony.exists() and not finishing:
        raise SetupError(
            "a restored log is half begun anew",
            code="ceremony_unfinished",
            hint=f"finish it: appliance auditor apply {home.ceremony}",
        )
    try:
        fd = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.PRIVATE_FILE)
    except OSError as error:
        raise SetupError(
            f"can not open {home.lock}: {error.strerror}",
            code="not_initialised",
            hint="run: appliance init --home DIR",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise SetupError(
            "another appliance process holds this home",
            code="already_running",
            hint="is 'appliance serve' running with the same --home?",
        ) from error
    return fd


def keep_lock(home: Home, held: int) -> int:
    """The lock that we hold, taken anew where its file was removed or replaced meanwhile."""
    try:
        if os.path.samestat(os.fstat(held), home.lock.lstat()):
            return held
    except FileNotFoundError:
        pass  # taken anew below
    taken = take_lock(home)
    os.close(held)
    return taken


def _plain(reason: str) -> str:
    return reason.encode("ascii", "replace").decode("ascii")[:MAX_REASON_CHARACTERS]


def _latch_bytes(reason: str) -> bytes:
    return json.dumps({"latched": _plain(reason)}).encode("ascii").ljust(LATCH_BYTES - 1) + b"\n"
